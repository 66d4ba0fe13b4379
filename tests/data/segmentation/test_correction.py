"""Lines from our volumes to DLMUSE's: exact where it is a line, out of sample, kept by method."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.segmentation.heads import dlmuse_volumes, needs_heads, people
from uncus.data.segmentation.correction import Correction, fit, load, save, structure


def test_a_line_is_found_and_inverted() -> None:
    ours = [
        {"left hippocampus": a, "right hippocampus": a + 0.5, "brain": 300 * a} for a in (2, 3, 4)
    ]
    dlmuse = [{name: 1.2 * ml - 0.3 for name, ml in one.items()} for one in ours]
    found = fit(ours, [{**one, "intracranial space": 1} for one in dlmuse])
    assert found.keys() == {"brain", "hippocampus"}
    line = found["hippocampus"]
    assert (line.slope, line.intercept) == pytest.approx((1.2, -0.3))
    assert (
        line.people == 3 and line.r == pytest.approx(1) and line.error == pytest.approx(0, abs=1e-9)
    )
    assert line.from_dlmuse(np.array([line.to_dlmuse(3.3)]))[0] == pytest.approx(3.3)


def test_the_error_is_of_people_whom_the_line_has_not_seen() -> None:
    ours = [{"brain": ml} for ml in (1.0, 2.0, 3.0, 10.0)]
    dlmuse = [{"brain": ml} for ml in (1.0, 2.0, 3.0, 5.0)]
    inside = fit(ours, dlmuse)["brain"]
    seen = np.mean(
        [
            abs(inside.to_dlmuse(o["brain"]) - d["brain"]) / d["brain"]
            for o, d in zip(ours, dlmuse, strict=True)
        ]
    )
    # Without the last person, the line is the identity, which is wrong by 100% for that person.
    assert inside.error > seen and inside.error > 0.25


def test_lines_are_kept_by_method(tmp_path: Path) -> None:
    path = tmp_path / "corrections.json"
    assert load("network", path) == {}
    load.cache_clear()
    line = Correction(1.1, 0.2, 18, 0.9, 0.05)
    save("other", {"brain": line}, path)
    save("network", {"hippocampus": line}, path)
    assert load("network", path) == {"hippocampus": line}
    assert load("other", path) == {"brain": line}
    load.cache_clear()


def test_sides_share_a_line() -> None:
    assert structure("left lateral ventricle") == structure("right lateral ventricle")
    assert structure("brain") == "brain"


@needs_heads
def test_real_heads_correct_the_definitions_of_brain_and_ventricles() -> None:
    """DLMUSE's brain has the third and fourth ventricle, its ventricles have no inferior horn."""
    rows, found = zip(*people(), strict=True)
    lines = fit([one.volumes for one in found], [dlmuse_volumes(row) for row in rows])
    for name in ("hippocampus", "lateral ventricle", "brain", "intracranial space"):
        assert lines[name].people == 18 and lines[name].r > 0.97 and lines[name].error < 0.06
