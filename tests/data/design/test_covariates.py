"""Covariates: the numbers of a table, the term beside the head, and both through a run."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from pydicom.dataset import FileDataset
from torch.nn import functional as F

from tests.conftest import TRAIN
from tests.dicom_files import save, series
from uncus.data.design import covariates
from uncus.data.design.targets import Target
from uncus.data.errors import BadInput
from uncus.models.build import ModelConfig, build_model
from uncus.models.covariates import Covariates
from uncus.models.inference import predict
from uncus.models.weights import load_weights, save_weights, transfer
from uncus.pipeline.cli import main
from uncus.pipeline.predict import Predictor
from uncus.pipeline.runs import Run
from uncus.pipeline.training.data_loading import ScanDataset
from uncus.pipeline.training.head_refit import refit

TABLE = pd.DataFrame(
    {
        "participant_id": ["sub-1", "sub-2", "sub-3"],
        "age": ["72.5", "n/a", "60"],
        "sex": ["F", "male", ""],
        "site": ["A", "B", "A"],
        "empty": ["", "n/a", ""],
    }
)


def test_columns_are_numbers_and_a_sex_is_one() -> None:
    found = covariates.columns(TABLE, ("age", "sex"))
    assert np.array_equal(found, [[72.5, 0], [np.nan, 1], [60, np.nan]], equal_nan=True)
    assert covariates.columns(TABLE, ()).shape == (3, 0)


@pytest.mark.parametrize(
    ("name", "said"),
    [("site", "'A' of sub-1 is no number"), ("empty", "no value"), ("agee", "no column 'agee'")],
)
def test_what_is_no_number_is_refused(name: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        covariates.columns(TABLE, (name,))


def test_one_persons_values_are_checked() -> None:
    known = covariates.parse(["age=72", "sex=F"])
    assert covariates.given(known, ("sex", "age")).tolist() == [0, 72]
    assert np.isnan(covariates.given({"age": None}, ("age",))).all()
    for wrong in (["age"], ["=72"], ["age="], ["age=1", "age=2"]):
        with pytest.raises(BadInput, match="write NAME=VALUE"):
            covariates.parse(wrong)
    with pytest.raises(BadInput, match="this run takes age"):
        covariates.given({"weight": 70}, ("age",))
    with pytest.raises(BadInput, match="no number"):
        covariates.given({"age": "old"}, ("age",))


def test_unknown_and_extrapolated_values_are_told() -> None:
    seen = covariates.ranges(np.array([[60.0], [80.0], [np.nan]], np.float32), ("age",))
    assert seen == {"age": {"min": 60, "max": 80, "mean": 70}}
    assert covariates.doubts(np.array([60.0], np.float32), seen) == ()
    (unknown,) = covariates.doubts(np.array([np.nan], np.float32), seen)
    assert "age is not known" in unknown
    (outside,) = covariates.doubts(np.array([90.0], np.float32), seen)
    assert "outside the training people's, 60 to 80" in outside


def test_the_term_is_linear_in_standard_deviations_and_no_value_is_the_mean() -> None:
    term = Covariates(2, 3)
    values = torch.tensor([[60.0, 0], [80, 1], [float("nan"), 1]])
    term.standardize(values)
    torch.nn.init.normal_(term.weight)
    deviations = torch.tensor([[-1.0, -(2**0.5)], [1, 0.5**0.5], [0, 0.5**0.5]])
    assert torch.allclose(term(values), deviations @ term.weight.T, atol=1e-6)
    assert torch.equal(term(torch.full((1, 2), torch.nan)), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="covariate 1 is constant"):
        term.standardize(torch.tensor([[1.0, 0], [1, 1]]))


def test_it_adds_to_the_scans_part_and_leaves_it() -> None:
    model = build_model(ModelConfig(backbone="tiny", covariates=1), seed=0).eval()
    assert model.covariates is not None
    torch.nn.init.normal_(model.covariates.weight)
    x = torch.randn(2, 1, 16, 16, 16)
    known = torch.tensor([[1.0], [-2.0]])
    assert torch.equal(model(x), model.classify(model.features(x)))
    added = model(x, known) - model(x)
    assert torch.allclose(added, model.covariates(known), atol=1e-6)
    for flip, each in ((False, (x[:1],)), (True, (x[:1], x[:1].flip(2)))):
        output, feature_map = predict(model, x[:1], flip, known[:1])
        expected = torch.stack([model(one, known[:1]) for one in each]).mean(0)
        assert torch.allclose(output, expected, atol=1e-6)
        assert torch.allclose(feature_map, model.features(x[:1]), atol=1e-6)


def test_another_task_starts_with_a_term_of_its_own(tmp_path: Path) -> None:
    one, other = (
        build_model(ModelConfig(backbone="tiny", covariates=1), seed=seed) for seed in (0, 1)
    )
    assert one.covariates is not None
    assert other.covariates is not None
    torch.nn.init.ones_(one.covariates.weight)
    save_weights(one, tmp_path / "one.safetensors")
    transfer(other, one.state_dict(), head=False)
    assert not other.covariates.weight.any()
    load_weights(other, tmp_path / "one.safetensors")
    assert other.covariates.weight.all()


def test_the_exact_head_takes_them_without_penalty() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    age = (70 + 5 * labels + 5 * rng.standard_normal(60)).astype(np.float32)[:, None]
    volumes = np.zeros((60, 8, 8, 8), np.float32)  # the scans say nothing
    data = ScanDataset(volumes, range(60), labels, age)
    model = build_model(ModelConfig(backbone="tiny", covariates=1), seed=0)
    assert model.covariates is not None
    model.covariates.standardize(torch.from_numpy(age))
    refit(model, data, Target.parse(("dx",), ("A=a", "B=b"), False), 0.1)
    output = model.eval()(torch.zeros(60, 1, 8, 8, 8), torch.from_numpy(age)).double()
    z = model.covariates.z(torch.from_numpy(age)).double()
    slope = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    offset = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([slope, offset], max_iter=100, tolerance_grad=1e-10)
    truth = torch.from_numpy(labels).double()

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(z[:, 0] * slope + offset, truth)
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    expected = (z[:, 0] * slope + offset).detach()
    assert torch.allclose(output[:, 1] - output[:, 0], expected, atol=0.02)
    assert float(slope.detach()) > 0.5


def test_a_run_takes_and_asks_for_them(source: Path, cohort: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [*TRAIN, "--covariates", "age", "--folds", "2", "--epochs", "2", "--lr", "0.01"]
    assert main(["train", str(cohort), str(run), *options]) == 0
    card = Run(run).card
    assert card["model"]["covariates"] == 1
    age = card["covariates"]["age"]
    assert age["min"] < age["mean"] < age["max"]
    predictor = Predictor(run)
    for network, fold in zip(predictor.networks, range(2), strict=True):
        trained = Run(run).splits().subjects(fold, "train")
        table = Run(run).scans()
        ages = table.loc[table["participant_id"].isin(trained), "age"].astype(float)
        assert network.covariates is not None
        assert float(network.covariates.mean) == pytest.approx(ages.mean(), rel=1e-5)
        assert network.covariates.weight.any(), "nothing was learnt"
    scan = next(cohort.glob("sub-00/**/*_T1w.nii.gz"))
    known = predictor(scan, covariates={"age": age["mean"] + 5})
    assert known.covariates == {"age": age["mean"] + 5}
    assert not any(warning.startswith("age ") for warning in known.warnings)
    whole = source / "sub-00" / "anat" / "sub-00_T1w.nii.gz"
    in_tree = predictor(whole)
    assert in_tree.covariates == {"age": 60}
    assert predictor(dicom_of(whole, tmp_path / "series")).covariates == {"age": 68}
    alone = tmp_path / "scan.nii.gz"
    shutil.copy(scan, alone)
    unknown = predictor(alone)
    assert unknown.as_dict()["covariates"] == {"age": None}
    assert any("age is not known" in warning for warning in unknown.warnings)
    assert unknown.probabilities != known.probabilities


def dicom_of(scan: Path, folder: Path) -> Path:
    """The scan as a DICOM series of somebody aged 68."""

    def edit(data: FileDataset, index: int) -> None:
        data.PatientAge, data.PatientSex = "068Y", "M"

    image = nib.load(scan)
    return save(folder, series(np.rint(image.get_fdata()).astype(np.int16), image.affine, edit))


def test_the_command_line_takes_them(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, scan = tmp_path / "run", str(next(cohort.glob("sub-*/**/*_T1w.nii.gz")))
    options = [*TRAIN, "--covariates", "age", "--folds", "1", "--epochs", "1"]
    assert main(["train", str(cohort), str(run), *options]) == 0
    capsys.readouterr()
    assert main(["predict", str(run), scan, "--json", "--covariates", "age=71"]) == 0
    assert json.loads(capsys.readouterr().out)["covariates"] == {"age": 71}
    assert main(["predict", str(run), scan, "--covariates", "weight=71"]) == 2
    assert "this run takes age" in capsys.readouterr().err
    assert main(["train", str(cohort), str(tmp_path / "x"), *TRAIN, "--covariates", "group"]) == 2
    capsys.readouterr()
    same = [*TRAIN, "--covariates", "sex", "--where", "sex == 'F'"]
    assert main(["train", str(cohort), str(tmp_path / "y"), *same]) == 2
    assert "--covariates sex: covariate 1 is constant" in capsys.readouterr().err
