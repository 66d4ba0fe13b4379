"""Names of output folders."""

from pathlib import Path

import pytest

from uncus.pipeline.prediction.output import scan_name


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a.nii.gz", "a"), ("a.b.nii", "a.b"), ("x.MGZ", "x"), ("s.img", "s"), ("s", "s")],
)
def test_scan_names(name: str, plain: str) -> None:
    assert scan_name(Path("/somewhere") / name) == plain
