"""Are the packages ``app``, ``data``, ``models`` and ``pipeline`` ours?

Their names are common: a folder ``models/`` on PYTHONPATH would be imported instead of ours and
fail far from the cause.
"""

import importlib.util
from pathlib import Path

PACKAGES = ("app", "data", "models", "pipeline")


def check() -> None:
    """Raise ValueError, naming the file that shadows one of our packages."""
    ours = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None and spec and spec.submodule_search_locations:
            origin = Path(next(iter(spec.submodule_search_locations))).resolve()
        if origin not in (ours / name, ours / name / "__init__.py"):
            raise ValueError(
                f"package {name!r} is taken from {origin} instead of {ours / name}: "
                "remove that folder from PYTHONPATH, or rename it"
            )
