"""Change values inside JSON, for tests of what an altered file does."""

from typing import Any


def put(inside: Any, path: str, value: Any) -> None:
    """Set, or remove for None, the value at ``path`` (``a.0.b``)."""
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        inside = inside[key]
    if value is None:
        del inside[last]
    else:
        inside[last] = value
