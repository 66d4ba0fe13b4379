"""The exactly fitted head."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from tests.conftest import TRAIN
from uncus.data.design.targets import Target
from uncus.data.files import read_json
from uncus.data.scan_dataset import ScanDataset
from uncus.models.base import Classifier
from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.cli import main
from uncus.pipeline.training.head_refit import AgeNorms, pooled, refit, refit_normed

THREE = Target.parse(("dx",), ("A=a", "B=b", "C=c"), False)
TWO = Target.parse(("dx",), ("A=a", "B=b"), False)


def network(classes: int) -> Classifier:
    return build_model(ModelConfig(backbone="tiny", classes=classes, dropout=0.5), seed=0)


def scans(labels: np.ndarray) -> ScanDataset:
    volumes = np.random.default_rng(0).standard_normal((len(labels), 8, 8, 8)).astype(np.float32)
    return ScanDataset(volumes, range(len(labels)), labels)


@pytest.mark.parametrize(("target", "classes"), [(TWO, 2), (THREE, 3)])
@pytest.mark.parametrize("flip", [False, True])
def test_the_head_is_at_the_minimum_of_the_penalized_loss(
    target: Target, classes: int, flip: bool
) -> None:
    model, c = network(classes), 0.5
    data = scans(np.arange(24) % classes)
    refit(model, data, target, c, flip=flip)
    features = torch.from_numpy(pooled(model, data, flip))
    spread = features.std(0, unbiased=False)
    x = (features - features.mean(0)) / spread
    # For two classes the penalty is on the weights of the log-odds, twice those of either class.
    strength = 2.0 if classes == 2 else 1.0
    weight = (model.head.weight.detach().double() * spread).requires_grad_()
    logits = x @ weight.T + model.head(features.mean(0).float()).detach().double()
    label = torch.from_numpy(data.labels)
    loss = F.cross_entropy(logits, label, reduction="sum") + strength * weight.square().sum() / (
        2 * c
    )
    (gradient,) = torch.autograd.grad(loss, weight)
    assert gradient.abs().max() < 1e-4
    assert weight.abs().max() > 0.01
    assert torch.allclose(model.head(features.float()), logits.float(), atol=1e-4)


def test_ridge_regression_ignores_missing_values() -> None:
    target = Target.parse(("age", "volume"), (), True)
    data = scans(np.random.default_rng(1).standard_normal((16, 2)).astype(np.float32))
    data.labels[3, 1] = np.nan
    model = network(2)
    refit(model, data, target, 1.0)
    x = torch.from_numpy(pooled(model, data, flip=False))
    x = (x - x.mean(0)) / x.std(0, unbiased=False)
    for k, rows in enumerate((np.arange(16), np.delete(np.arange(16), 3))):
        centered = x[rows] - x[rows].mean(0)
        y = torch.from_numpy(data.labels[rows, k]).double()
        expected = torch.linalg.solve(
            centered.T @ centered + torch.eye(x.shape[1]), centered.T @ (y - y.mean())
        )
        spread = torch.from_numpy(pooled(model, data, flip=False)).std(0, unbiased=False)
        assert torch.allclose(model.head.weight[k].double() * spread, expected, atol=1e-5)


def test_a_dead_channel_has_no_weight_and_an_absent_class_is_an_error() -> None:
    class Dead(Classifier):
        def features(self, x: Tensor) -> Tensor:
            return torch.cat([x, torch.full_like(x, 3.0)], 1)

    model = Dead(2, 2, stride=1)
    refit(model, scans(np.arange(10) % 2), TWO, 1.0)
    assert model.head.weight[:, 1].abs().max() == 0 and torch.isfinite(model.head.bias).all()
    with pytest.raises(ValueError, match="class number 1 has no training scan"):
        refit(model, scans(np.zeros(4, dtype=np.int64)), TWO, 1.0)


def test_a_balanced_head_weights_classes_equally() -> None:
    data = scans((np.arange(20) >= 16).astype(np.int64))
    rates = []
    for balance in (False, True):
        model = network(2)
        refit(model, data, TWO, 1e-6, balance=balance)  # the bias only
        rates.append(float(model.head.bias.detach().softmax(0)[1]))
    assert rates == pytest.approx([0.2, 0.5], abs=0.01)


def test_a_head_is_fitted_to_what_is_beyond_the_norm_of_ones_age() -> None:
    """Against the same, computed measure by measure; class and age are tied, and do not tell."""
    rng = np.random.default_rng(0)
    config = ModelConfig(backbone="tiny", covariates=1, covariate_degree=2, dropout=0)
    model = build_model(config, seed=0)
    assert model.covariates
    labels, age = np.arange(40) % 2, rng.uniform(50, 90, (40, 1)).astype(np.float32)
    patients, volumes = replace_ages(scans(labels), age), rng.standard_normal((60, 8, 8, 8))
    ages = rng.uniform(20, 90, (60, 1)).astype(np.float32)
    normal = ScanDataset(volumes.astype(np.float32), range(60), np.zeros(60), ages)
    model.covariates.standardize(torch.from_numpy(age))
    measures, bias = rng.standard_normal((3, model.head.in_features)), rng.standard_normal(3)
    refit_normed(model, patients, TWO, 0.5, AgeNorms(normal, measures, bias))
    own, others = (pooled(model, data, False) @ measures.T + bias for data in (patients, normal))
    beyond = np.empty_like(own)
    for k in range(3):
        curve = np.polyfit(ages[:, 0], others[:, k], 2)
        rest = others[:, k] - np.polyval(curve, ages[:, 0])
        beyond[:, k] = (own[:, k] - np.polyval(curve, age[:, 0])) / rest.std(ddof=3)
    fitted = LogisticRegression(C=0.5, tol=1e-8).fit(beyond, labels)
    expected = fitted.decision_function(beyond)
    volume = torch.stack([patients[i]["volume"] for i in range(len(patients))])
    output = model.eval()(volume, torch.from_numpy(age)).detach().double().numpy()
    np.testing.assert_allclose(output[:, 1] - output[:, 0], expected, atol=1e-2)
    few = ScanDataset(normal.volumes, range(9), np.zeros(9), ages[:9])
    with pytest.raises(ValueError, match="9 normal scans of known age"):
        refit_normed(model, patients, TWO, 0.5, AgeNorms(few, measures, bias))


def replace_ages(data: ScanDataset, age: np.ndarray) -> ScanDataset:
    return ScanDataset(data.volumes, data.rows, data.labels, age)


def test_only_the_head_is_fitted_without_epochs(run: Path, cohort: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    options = [*TRAIN, "--epochs", "0", "--refit-head", "0.1", "--init-from", str(run)]
    assert main(["train", str(cohort), str(again), *options]) == 0
    for member in sorted((run / "model").glob("fold-*.safetensors")):
        from safetensors.torch import load_file

        before, after = load_file(member), load_file(again / "model" / member.name)
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == {"head.weight", "head.bias"}
    assert main(["evaluate", str(again)]) == 0
    assert 0 <= read_json(again / "report.json")["metrics"]["auc"]["value"] <= 1


def test_neither_epochs_nor_refit_is_an_error(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "none")
    assert main(["train", str(cohort), out, *TRAIN, "--epochs", "0"]) == 2
    assert "epochs=0: must be at least 1" in capsys.readouterr().err
