"""Parameter groups and frozen norms."""

from pathlib import Path

import pytest

from tests.conftest import TRAIN
from uncus.models.build import ModelConfig, build_model
from uncus.models.swap import find_norms
from uncus.models.weights import read_weights
from uncus.pipeline.cli import main
from uncus.pipeline.training.optimization import Optimization, parameter_groups


def test_vectors_are_not_decayed_and_a_trunk_of_rate_0_is_frozen() -> None:
    from uncus.models.build import ModelConfig, build_model

    model = build_model(ModelConfig("tiny"))
    groups = parameter_groups(model, Optimization(weight_decay=0.1, trunk_lr=0.5, lr=0.01))
    for group in groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    assert {g["lr"] for g in groups} == {0.005, 0.01}
    frozen = parameter_groups(model, Optimization(trunk_lr=0))
    assert sum(len(g["params"]) for g in frozen) == len(list(model.head.parameters()))
    assert not any(p.requires_grad for p in model.parameters() if p.ndim == 5)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_frozen_norms_do_not_change(cohort: Path, tmp_path: Path, norm: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    options = [*TRAIN, "--epochs", "2", "--folds", "1", "--norm", norm]
    assert main(["train", str(cohort), str(first), *options]) == 0
    tuning = ["--init-from", str(first), "--freeze-norms"]
    assert main(["train", str(cohort), str(second), *options, *tuning]) == 0
    before, after = (read_weights(p / "model" / "fold-0.safetensors") for p in (first, second))
    model = build_model(ModelConfig(backbone="tiny", norm=norm))
    norms = [f"{name}." for name in find_norms(model)]
    for name in before:
        same = bool((before[name] == after[name]).all())
        assert same == any(name.startswith(norm) for norm in norms), name
