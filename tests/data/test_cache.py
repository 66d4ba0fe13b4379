"""Arrays are computed once; a cache that is damaged or cannot be written changes nothing."""

from pathlib import Path

import numpy as np
import pytest

from uncus.data.cache import Arrays, cache_folder, kept


class Count:
    """Computes an array, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return {"x": np.arange(5.0), "inside": np.array([True, False])}


def same(arrays: Arrays) -> bool:
    return arrays["x"].tolist() == [0, 1, 2, 3, 4] and arrays["inside"].tolist() == [True, False]


def test_arrays_are_computed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compute = Count()
    assert all(same(kept("n", {"format": 1}, compute)) for _ in range(2)) and compute.calls == 1
    assert same(kept("n", {"format": 2}, compute)) and compute.calls == 2
    file = next(cache_folder().glob("n-*"))
    file.write_bytes(file.read_bytes()[:20])
    assert all(same(kept("n", {"format": k}, compute)) for k in (1, 2, 1, 2)) and compute.calls == 3


def test_a_cache_that_cannot_be_written_is_not_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compute = Count()
    assert same(kept("n", {}, compute)) and same(kept("n", {}, compute)) and compute.calls == 2
