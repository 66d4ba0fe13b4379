"""Covariates in training, prediction and on the command line."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from pydicom.dataset import FileDataset
from torch.nn import functional as F

from tests.conftest import TRAIN
from tests.dicom_files import save, series
from uncus.data.design.targets import Target
from uncus.data.errors import BadInput
from uncus.data.scan_dataset import ScanDataset
from uncus.models.build import ModelConfig, build_model
from uncus.pipeline.cli import main
from uncus.pipeline.predict import Predictor
from uncus.pipeline.runs import Run
from uncus.pipeline.training.head_refit import refit


def test_the_refitted_head_does_not_penalize_covariates() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    age = (70 + 5 * labels + 5 * rng.standard_normal(60)).astype(np.float32)[:, None]
    volumes = np.zeros((60, 8, 8, 8), np.float32)  # without information
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


def test_a_run_is_trained_with_covariates_and_predicts_with_them(
    source: Path, cohort: Path, tmp_path: Path
) -> None:
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
        assert network.covariates.weight.any(), "nothing was learned"
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
    assert any("age is unknown" in warning for warning in unknown.warnings)
    assert unknown.probabilities != known.probabilities
    oldest = predictor(alone, covariates={"age": "89+"})
    assert oldest.covariates == {"age": 89}
    assert "age 89+ is read as 89" in oldest.warnings
    tree = tmp_path / "tree"
    inside = tree / "sub-00" / "anat" / "sub-00_T1w.nii.gz"
    inside.parent.mkdir(parents=True)
    shutil.copy(whole, inside)
    (tree / "participants.tsv").write_text("participant_id,age\nsub-00,60\n")
    assert predictor(inside, covariates={"age": 71}).covariates == {"age": 71}
    with pytest.raises(BadInput, match=r"participants\.tsv: a \.tsv file with commas"):
        predictor(inside)


@pytest.mark.parametrize("table", ["participant_id,age\n", "participant_id\tsex\nsub-00\t?\n"])
def test_what_is_given_does_not_depend_on_the_tables_around_the_scan(
    source: Path, cohort: Path, tmp_path: Path, table: str
) -> None:
    run = tmp_path / "run"
    options = [*TRAIN, "--covariates", "age", "sex", "--folds", "1", "--epochs", "1"]
    assert main(["train", str(cohort), str(run), *options]) == 0
    predictor = Predictor(run)
    scan = tmp_path / "tree" / "sub-00" / "anat" / "sub-00_T1w.nii.gz"
    scan.parent.mkdir(parents=True)
    shutil.copy(source / "sub-00" / "anat" / "sub-00_T1w.nii.gz", scan)
    (tmp_path / "tree" / "participants.tsv").write_text(table)
    with pytest.raises(BadInput):
        predictor(scan)
    answer = predictor(scan, covariates={"age": 71})
    assert answer.covariates == {"age": 71, "sex": None}
    assert any(warning.startswith("sex not read: ") for warning in answer.warnings)
    whole = predictor(scan, covariates={"age": 71, "sex": "F"})
    assert whole.covariates == {"age": 71, "sex": 0}
    assert not any("not read" in warning for warning in whole.warnings)


def dicom_of(scan: Path, folder: Path) -> Path:
    """The scan as a DICOM series of a subject aged 68."""

    def edit(data: FileDataset, index: int) -> None:
        data.PatientAge, data.PatientSex = "068Y", "M"

    image = nib.load(scan)
    return save(folder, series(np.rint(image.get_fdata()).astype(np.int16), image.affine, edit))


def test_covariates_on_the_command_line(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, scan = tmp_path / "run", str(next(cohort.glob("sub-*/**/*_T1w.nii.gz")))
    options = [*TRAIN, "--covariates", "age", "--folds", "1", "--epochs", "1"]
    assert main(["train", str(cohort), str(run), *options]) == 0
    capsys.readouterr()
    assert main(["predict", str(run), scan, "--json", "--covariates", "age=71"]) == 0
    assert json.loads(capsys.readouterr().out)["covariates"] == {"age": 71}
    assert main(["predict", str(run), scan, "--covariates", "weight=71"]) == 2
    assert "choose from: age" in capsys.readouterr().err
    assert main(["train", str(cohort), str(tmp_path / "x"), *TRAIN, "--covariates", "group"]) == 2
    capsys.readouterr()
    same = [*TRAIN, "--covariates", "sex", "--where", "sex == 'F'"]
    assert main(["train", str(cohort), str(tmp_path / "y"), *same]) == 2
    assert "--covariates sex: covariate 1 is constant" in capsys.readouterr().err
