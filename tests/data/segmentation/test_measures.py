"""What is reported of a person: ml as measured, centiles after the correction, or why not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.data.segmentation.heads import dlmuse_volumes, needs_heads, people
from uncus.data.segmentation.correction import Correction, fit
from uncus.data.segmentation.measures import centile_text, measure, write_volumes
from uncus.data.segmentation.segmentation import REGIONS, Segmentation

SAME = Correction(1.0, 0.0, 18, 1.0, 0.0)
LINES = dict.fromkeys(
    ("hippocampus", "amygdala", "lateral ventricle", "brain", "intracranial space"), SAME
)
VOLUMES = {
    "left hippocampus": 3.519,
    "right hippocampus": 3.234,
    "left amygdala": 1.0,
    "right amygdala": 1.0,
    "left lateral ventricle": 40.0,
    "right lateral ventricle": 10.0,
    "brain": 1148.0,
    "intracranial space": 1300.0,
}
PERSON = Segmentation(np.zeros((1, 1, 1), np.uint8), np.eye(4), VOLUMES, "test", LINES)


def rows(person: Segmentation = PERSON) -> dict[str, dict]:
    return {row["region"]: row for row in measure(person, 70, "F")["regions"]}


def test_volumes_centiles_and_asymmetry() -> None:
    found = rows()
    assert found.keys() == REGIONS.keys()
    left, right = found["left hippocampus"], found["right hippocampus"]
    assert left["volume_ml"] == 3.519 and left["centile"] == 50.0 and right["centile"] == 5.0
    assert left["asymmetry"] == right["asymmetry"] == pytest.approx(0.285 / 6.753, abs=1e-4)
    assert found["left lateral ventricle"]["centile"] == 95.0
    assert found["brain"]["centile"] == 50.0 and found["brain"]["asymmetry"] is None
    assert found["intracranial space"]["centile"] is None
    # 3.519 ml of 1300 are 3.871 of 1430: between the 50th (3.759) and the 75th (3.973).
    assert 60 < left["centile_icv"] < 67


def test_centiles_are_of_the_corrected_volume_and_ml_are_not() -> None:
    larger = {**LINES, "hippocampus": Correction(1.0, 0.3, 18, 1.0, 0.0)}
    found = rows(replace(PERSON, corrections=larger))["left hippocampus"]
    assert found["volume_ml"] == 3.519 and found["centile"] > 75


@pytest.mark.parametrize(
    ("options", "reason", "both"),
    [
        ({"age": None}, "the age is unknown", False),
        ({"age": 39}, "people of 40 to 93 years", False),
        ({"age": 92.5, "sex": "M"}, "people of 40 to 92 years", True),
        ({"age": 94, "sex": "M"}, "people of 40 to 92 years", False),
        ({"sex": ""}, "the sex is unknown", True),
        ({"corrections": {}}, "not been compared with DLMUSE", False),
    ],
)
def test_no_centile_where_there_is_none_and_the_reason(
    options: dict, reason: str, both: bool
) -> None:
    options = {"age": 70, "sex": "F", "corrections": LINES, **options}
    found = measure(
        replace(PERSON, corrections=options["corrections"]), options["age"], options["sex"]
    )
    assert reason in found["no_centiles"]
    assert all(row["centile"] is None for row in found["regions"])
    of_both = [row["centile_icv"] for row in found["regions"] if row["region"] in ("brain",)]
    assert (of_both[0] is not None) is both
    assert [row["volume_ml"] for row in found["regions"]] == list(VOLUMES.values())


def test_a_volume_that_follows_dlmuse_loosely_has_no_centile() -> None:
    loose = {**LINES, "hippocampus": replace(SAME, r=0.63)}
    found = measure(replace(PERSON, corrections=loose), 70, "F")
    assert "too loosely (r hippocampus 0.63)" in found["no_centiles"]
    centiles = {row["region"]: row["centile"] for row in found["regions"]}
    assert centiles["left hippocampus"] is None and centiles["brain"] == 50
    loose = {**LINES, "intracranial space": replace(SAME, r=0.63)}
    for row in measure(replace(PERSON, corrections=loose), 70, "F")["regions"]:
        assert row["centile_icv"] is None


def test_nothing_is_said_where_all_is_known() -> None:
    assert measure(PERSON, 70, "M")["no_centiles"] == ""


def test_centiles_as_text() -> None:
    texts = [centile_text(c) for c in (None, 5.0, 5.4, 50.2, 95.0)]
    assert texts == ["–", "5 or less", "5", "50", "95 or more"]


def test_a_side_without_tissue_has_no_asymmetry() -> None:
    empty = Segmentation.from_labels(np.zeros((2, 2, 2), np.uint8), np.eye(4), "test")
    assert all(
        row["asymmetry"] is None
        for row in measure(replace(empty, corrections=LINES), 70, "F")["regions"]
    )


def test_table(tmp_path: Path) -> None:
    write_volumes(tmp_path / "volumes.tsv", measure(PERSON, 70, "F"))
    table = pd.read_csv(tmp_path / "volumes.tsv", sep="\t")
    assert list(table) == ["region", "volume_ml", "asymmetry", "centile", "centile_icv"]
    assert table["volume_ml"].tolist() == list(VOLUMES.values())


@needs_heads
def test_elderly_people_are_spread_over_the_centiles() -> None:
    """None of the eight is at one end in everything; large ventricles are above the median."""
    everybody = people()
    lines = fit([s.volumes for _, s in everybody], [dlmuse_volumes(row) for row, _ in everybody])
    lines["amygdala"] = SAME
    for row, segmentation in everybody[:8]:
        if row["age"] > 92:
            continue
        found = {
            r["region"]: r
            for r in measure(replace(segmentation, corrections=lines), row["age"], row["sex"])[
                "regions"
            ]
        }
        brain = [one["centile"] for name, one in found.items() if name != "intracranial space"]
        assert None not in brain and len({centile_text(c) for c in brain}) > 2
