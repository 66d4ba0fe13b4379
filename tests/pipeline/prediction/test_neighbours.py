"""Nearest training scans: a training scan is nearest to itself, and no names are stored."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import PreparedCohort
from uncus.pipeline.predict import Predictor
from uncus.pipeline.prediction.neighbours import Neighbours, features
from uncus.pipeline.runs import Run


@torch.inference_mode()
def test_a_training_scan_is_nearest_to_itself(run: Path, cohort: Path) -> None:
    known, predictor = Neighbours.read(Run(run)), Predictor(run)
    prepared = PreparedCohort.open(cohort)
    assert known is not None and len(known.subjects) == len(prepared)
    for index in (0, 5):
        volume = torch.from_numpy(np.asarray(prepared.volumes[index], np.float32))[None, None]
        first, second, *_ = known.nearest(features(predictor.networks[0].features(volume)))
        row = prepared.table.iloc[index]
        assert first["distance"] < 1e-3 < second["distance"]
        assert first["label"] == row["diagnosis"] and first["sex"] == row["sex"]
    spread = np.where(np.isfinite(known.spread), known.spread, 0)  # a feature that never varies
    distances = [known.nearest(row * spread, 2)[1]["distance"] for row in known.scaled]
    assert np.median(distances) == pytest.approx(1, abs=1e-2)


def test_no_name_is_stored_and_the_files_are_sealed(run: Path) -> None:
    text = Run(run).neighbours_path.read_text()
    assert "sub-" not in text and '"label"' in text
    assert {"neighbours.json", "neighbours.safetensors"} <= set(Run(run).card["results"])
    assert "neighbours.json" not in Run(run).verify()


def test_runs_without_and_damaged_files(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    copied = Run(tmp_path / "run")
    copied.neighbour_features_path.write_bytes(b"0")
    with pytest.raises(BadInput, match="SHA-256 differs"):
        Neighbours.read(copied)
    copied.neighbour_features_path.unlink()
    assert Neighbours.read(copied) is None
