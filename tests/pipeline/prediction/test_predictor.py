"""Predictor: means over networks, out-of-fold predictions, default saliency method."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uncus.pipeline.predict import Predictor
from uncus.pipeline.runs import Run


def test_the_default_method_depends_on_the_size_of_the_feature_maps(run: Path, scan: Path) -> None:
    predictor = Predictor(run)
    prediction = predictor(scan)
    wide = np.zeros((1, 4, 3, 3, 3), np.float32)
    for maps, method in (
        (prediction.feature_maps, "grad_cam"),
        ((wide, wide), "grad_cam"),
        ((wide, wide[..., :2]), "integrated_gradients"),
    ):
        assert predictor.method(replace(prediction, feature_maps=maps)) == method
    assert predictor.method(prediction, "occlusion") == "occlusion"


def test_equals_the_out_of_fold_prediction(run: Path, source: Path) -> None:
    predictor = Predictor(run)
    table = Run(run).predictions()
    for row in table.itertuples():
        path = source / row.participant_id / "anat" / f"{row.participant_id}_T1w.nii.gz"
        prediction = predictor(path)
        probability = prediction.members[int(row.fold)]["AD"]
        assert probability == pytest.approx(row.p_AD, abs=1e-5)
        assert any("was trained on this scan" in warning for warning in prediction.warnings)


def test_mean_and_spread_over_the_networks(run: Path, scan: Path) -> None:
    prediction = Predictor(run)(scan)
    shares = [member["AD"] for member in prediction.members]
    assert len(shares) == 2
    assert prediction.probabilities["AD"] == pytest.approx(np.mean(shares))
    assert prediction.spread["AD"] == pytest.approx(np.std(shares))
    assert not prediction.warnings
