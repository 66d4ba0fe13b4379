"""Arrays that never change, computed once and kept in the user's cache folder.

The folder is never required: what cannot be kept there, or was damaged, is computed again.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError

from uncus.data.errors import BadInput
from uncus.data.files import write_atomically

Arrays = dict[str, NDArray[Any]]


def cache_folder() -> Path:
    """Where this system keeps a user's caches; raises RuntimeError for a user without a home."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "uncus"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "uncus"


def kept(name: str, facts: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
    """The arrays of ``compute``, from the cache if they are there.

    Parameters
    ----------
    name: of the file, without its end.
    facts: all that the arrays depend on, such as versions.
    """
    from safetensors.numpy import load_file, save_file

    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    try:
        path = cache_folder() / f"{name}-{key}.safetensors"
    except RuntimeError:
        return compute()
    with suppress(OSError, SafetensorError):
        return load_file(path)
    arrays = compute()
    with suppress(BadInput):
        write_atomically(path, lambda temporary: save_file(arrays, temporary))
    return arrays
