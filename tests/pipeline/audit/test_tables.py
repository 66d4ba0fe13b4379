"""Checks that read tables alone: confounders, conflicts, label errors."""

from pathlib import Path

import numpy as np
import pandas as pd

from uncus.data.design.splits import make_splits
from uncus.data.design.targets import Target, class_indices
from uncus.pipeline.audit import association, identity, label_errors, probes
from uncus.pipeline.audit.evidence import Evidence
from uncus.pipeline.audit.finding import Finding, decide
from uncus.pipeline.audit.identity import Likeness


def evidence(subjects: int = 60, **columns: list[str]) -> Evidence:
    """Scans of CN and AD in turn, with some columns, and folds."""
    scans = pd.DataFrame(
        {
            "participant_id": [f"sub-{k:02d}" for k in range(subjects)],
            "session_id": "",
            "voxel_hash": [str(k) for k in range(subjects)],
            "dx": ["CN", "AD"] * (subjects // 2),
            **columns,
        },
        dtype=object,
    )
    target = Target.parse(["dx"], ["CN=CN", "AD=AD"])
    labels = class_indices(scans, target)
    return Evidence("x", scans, target, labels, make_splits(scans, labels, validation=0.0))


def decided(given: tuple[list[Finding], list[association.Test]]) -> dict[str, Finding]:
    return {one.check: one for one in [*given[0], *decide(given[1])]}


def test_what_goes_with_the_class_is_named() -> None:
    rng = np.random.default_rng(0)
    found = decided(
        association.check(
            evidence(
                age=[str(70 + 8 * (k % 2) + rng.normal(0, 5)) for k in range(60)],
                sex=[str(rng.choice(["F", "M"])) for _ in range(60)],
                site=["1" if (k % 2) or k < 6 else "2" for k in range(60)],
            )
        )
    )
    status = {check: one.status for check, one in found.items()}
    assert status == {
        "age": "fault",
        "sex": "passed",
        "site": "fault",
        "scanner": "not checked",
    }
    assert "100% of AD" in found["site"].verdict  # a site's number is a name


def test_a_column_that_is_the_same_in_one_class_is_a_fault() -> None:
    """The variance of such a class is 0: a test of means has no p-value, and passed it."""
    rng = np.random.default_rng(0)
    given = evidence(
        sex=["1" if k % 2 else str(rng.integers(2)) for k in range(60)],
        age=["75" if k % 2 else f"{rng.normal(65, 3):.1f}" for k in range(60)],
        education=["12" if k % 2 else f"{rng.integers(3, 12)}" for k in range(60)],
    )
    found = decided(association.check(given, ["education"]))
    assert {found[name].status for name in ("sex", "age", "education")} == {"fault"}
    assert "1 are 67% of CN, 100% of AD; Cramér's V 0.447" in found["sex"].verdict


def test_a_tie_too_weak_to_matter_is_no_fault_however_many_subjects() -> None:
    ages = 70 + 3 * np.random.default_rng(0).standard_normal(6000) + np.tile([0, 0.3], 3000)
    found = decided(association.check(evidence(6000, age=[str(age) for age in ages])))["age"]
    assert found.status == "note" and found.details["p"] < 1e-3


def test_faultless_tables_get_a_fault_in_few_cases() -> None:
    alarms = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        given = evidence(
            age=[f"{rng.gamma(4, 15):.1f}" for _ in range(60)],
            sex=[str(rng.choice(["F", "M"])) for _ in range(60)],
            site=[str(rng.choice(list("AB"))) for _ in range(60)],
        )
        alarms += any(one.status == "fault" for one in decided(association.check(given)).values())
    assert alarms <= 3


def test_a_probe_of_nothing_is_near_chance_and_one_of_the_class_is_not() -> None:
    given = evidence()
    y = np.asarray(given.labels)
    noise = np.random.default_rng(1).standard_normal((60, 30))
    assert probes.out_of_fold(given, noise).p() > 0.01
    told = probes.out_of_fold(given, np.column_stack([noise[:, :3], y + 0.5 * noise[:, 3]]))
    assert told.auc()["low"] > 0.7 and told.p() < 1e-4


def test_labels_in_doubt_are_listed() -> None:
    given = evidence()
    y = np.asarray(given.labels).astype(int)
    p = np.where(np.eye(2, dtype=bool)[y], 0.95, 0.05)
    p[7] = p[7, ::-1]  # the images say otherwise
    found = label_errors.doubtful(given, probes.Scored(y, p, np.arange(60)), "the network")
    assert found.status == "note"
    assert [row["participant_id"] for row in found.details["scans"]] == ["sub-07"]


def test_conflicts_of_a_person_are_named() -> None:
    scans = pd.DataFrame(
        {
            "participant_id": ["sub-1", "sub-1", "sub-2", "sub-2", "sub-3"],
            "session_id": ["ses-1", "ses-2"] * 2 + [""],
            "voxel_hash": list("abcde"),
            "sex": ["F", "M", "F", "F", "M"],
            "age": ["70", "72", "80", "75", "60"],
        },
        dtype=object,
    )
    alike = np.eye(5, 10, dtype=np.float32)
    alike[2, 3] = alike[3, 2] = 0.9
    likeness = Likeness(list(scans["participant_id"]), 5, alike)
    found = identity.conflicts(Evidence("x", scans), likeness)
    assert found.status == "fault"
    assert found.details["conflicts"] == ["sub-1 is of sex F and M", "sub-2 becomes younger"]
    assert found.details["mismatched"] == ["sub-1"]


def test_the_same_voxels_under_two_names_are_a_fault(tmp_path: Path) -> None:
    given = evidence()
    given.scans.loc[5, "voxel_hash"] = "4"
    found = identity.same_person(given, Likeness([], 0, np.zeros((0, 0), np.float32)))
    assert found.status == "fault" and found.details["pairs"] == [["sub-04", "sub-05", 1.0]]
