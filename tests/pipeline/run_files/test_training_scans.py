"""Salted hashes of training scans: a known scan is recognized, tables of two runs do not match."""

from pathlib import Path

import pytest

from uncus.data import files
from uncus.data.errors import BadInput
from uncus.pipeline.run_files.training_scans import TrainingScans

SCANS = ["a" * 64, "b" * 64]


def test_only_known_scans_are_recognized(tmp_path: Path) -> None:
    files.write_json(tmp_path / "scans.json", TrainingScans.of(SCANS).as_dict())
    known = TrainingScans.read(tmp_path / "scans.json")
    assert all(one in known for one in SCANS) and "c" * 64 not in known
    assert not set(SCANS) & known.hashes


def test_two_runs_on_the_same_scans_share_no_hash() -> None:
    assert not TrainingScans.of(SCANS).hashes & TrainingScans.of(SCANS).hashes


def test_without_a_salt_the_hashes_are_those_of_the_voxels() -> None:
    assert "a" * 64 in TrainingScans("", frozenset(SCANS))


@pytest.mark.parametrize("value", [[], {}, {"salt": 1, "hashes": []}, {"salt": "", "hashes": {}}])
def test_anything_else_is_rejected(value: object, tmp_path: Path) -> None:
    files.write_json(tmp_path / "scans.json", value)
    with pytest.raises(BadInput, match=r"scans\.json: has no salt and hashes"):
        TrainingScans.read(tmp_path / "scans.json")
