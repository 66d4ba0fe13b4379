"""Check the properties of `contracts.py` for every registry entry."""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch

from tests import contracts
from uncus.data.cohorts.readers import READERS
from uncus.models.base import Classifier
from uncus.models.build import BACKBONES, ModelConfig, build_model
from uncus.models.norms import NORMS
from uncus.pipeline.saliency import SALIENCY, occlusion

# Slow, so only two: the others consist of the same layers.
EXPORTED = ("resnet10", "sfcn")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def narrow(backbone: str, norm: str = "group", classes: int = 2) -> ModelConfig:
    return ModelConfig(backbone, norm, groups=4, classes=classes, width=8, dropout=0.0)


@cache
def _randomized(config: ModelConfig) -> Classifier:
    return contracts.randomize(build_model(config, seed=0)).eval()


def randomized(config: ModelConfig) -> Classifier:
    return deepcopy(_randomized(config))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_model(backbone: str, norm: str) -> None:
    config = narrow(backbone, norm, classes=3)
    properties = dict(contracts.NORM_IN_MODEL_PROPERTIES)
    if norm == "group" or backbone == "tiny":
        properties |= contracts.MODEL_PROPERTIES
    for name, check in properties.items():
        try:
            check(randomized(config), config)
        except Exception as error:
            error.add_note(f"{backbone} with {norm} norm: {name}")
            raise


# anatomy measures in slices from inferior to superior, which a mirror image exchanges
@pytest.mark.parametrize("backbone", [b for b in BACKBONES if b != "anatomy"])
def test_model_positions_its_features(backbone: str) -> None:
    contracts.positions_its_features(randomized(narrow(backbone)), narrow(backbone))


@pytest.mark.parametrize("backbone", [b for b in BACKBONES if b.startswith("resnet")])
def test_resnet_starts_blocks_as_shortcuts(backbone: str) -> None:
    contracts.starts_blocks_as_shortcuts(randomized(narrow(backbone)), narrow(backbone))


@pytest.mark.parametrize(
    ("backbone", "norm"),
    [(b, "group") for b in EXPORTED] + [("tiny", norm) for norm in NORMS],
)
def test_model_exports(backbone: str, norm: str) -> None:
    contracts.exports(randomized(narrow(backbone, norm)), narrow(backbone, norm))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_model_with_weight_standardization(backbone: str) -> None:
    config = replace(narrow(backbone), weight_standardization=True)
    contracts.runs_at_batch_one_and_two_in_both_precisions(randomized(config), config)


def test_batch_dependent_groups_and_moment_shortcut_export() -> None:
    for config in (
        replace(narrow("tiny", "batch_group"), groups=None, weight_standardization=True),
        replace(narrow("resnet10", "positional"), moment_shortcut=True),
    ):
        contracts.exports(randomized(config), config)


@pytest.mark.parametrize("prop", contracts.NORM_PROPERTIES)
@pytest.mark.parametrize("norm", NORMS)
def test_norm(norm: str, prop: str) -> None:
    contracts.NORM_PROPERTIES[prop](norm, NORMS[norm])


@pytest.mark.parametrize("backbone", ["tiny", "resnet10"])
@pytest.mark.parametrize("method", SALIENCY)
def test_saliency(method: str, backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occlusion, "OCCLUSIONS", 40)
    for name, check in contracts.SALIENCY_PROPERTIES.items():
        try:
            check(SALIENCY[method], randomized(narrow(backbone)))
        except Exception as error:
            error.add_note(f"{method} of {backbone}: {name}")
            raise


def test_registries_have_the_public_names() -> None:
    assert {"bids", "table", "caps", "folder"} <= set(READERS)
    assert all(callable(reader) for reader in READERS.values())
    papers = {"positional", "batch_group", "group_plus", "frn", "batch_channel"}
    assert papers | {"group", "batch", "instance", "layer"} <= set(NORMS)
    ours = {"tiny", "resnet10", "resnet18", "resnet34", "resnet50", "sfcn"}
    assert ours | {"densenet121"} <= set(BACKBONES)
    methods = {"grad_cam", "grad_cam_pp", "integrated_gradients", "occlusion"}
    assert methods <= set(SALIENCY)
    assert all(entry.summary for r in (NORMS, BACKBONES, SALIENCY) for entry in r.values())
