"""Built-in models: listed, found by name, and used where no run is named."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from uncus import NOTICE
from uncus.pipeline.builtin import catalog
from uncus.pipeline.cli import main
from uncus.pipeline.prediction.score_axis import scores
from uncus.pipeline.runs import Run, find_runs


@pytest.fixture
def models(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two built-in models: what a prediction needs of a run, no more."""
    folder = tmp_path / "models"
    for name in ("anatomy", "dementia"):
        shutil.copytree(run / "model", folder / name / "model")
    monkeypatch.setattr(catalog, "FOLDER", folder)
    return folder


def answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(["predict", *arguments, "--json"]) == 0
    printed: dict[str, object] = json.loads(capsys.readouterr().out)
    return printed


def error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_scan_without_a_run_is_answered_by_the_default_model(
    models: Path, run: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = answer([str(run), str(scan)], capsys)
    assert own["model"]["run"] == run.name
    for arguments, name in (
        ([str(scan)], "dementia"),
        (["anatomy", str(scan)], "anatomy"),
    ):
        found = answer(arguments, capsys)
        assert found["model"]["run"] == name and found["notice"] == NOTICE
        assert found["probabilities"] == own["probabilities"]


def test_a_built_in_model_is_evaluated_on_a_cohort(
    models: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, out = str(tmp_path / "cohort"), tmp_path / "out"
    assert main(["prepare", str(source), cohort, "--like", "dementia", "--workers", "1"]) == 0
    capsys.readouterr()
    asked = ["evaluate", "dementia", "--on", cohort, "--draws", "100"]
    alone = "is a model without its run; add "
    assert error(asked, capsys).endswith(f"{alone}--out for the report")
    assert error(asked[:2], capsys).endswith(f"{alone}--on COHORT and --out for the report")
    assert main([*asked, "--out", str(out)]) == 0
    assert "auc" in Run(out).report()["metrics"]
    assert not (models / "dementia" / "external").exists()


def test_several_scans_without_a_run(
    models: Path, scan: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = source / "sub-00" / "anat" / "sub-00_T1w.nii.gz"
    assert main(["predict", str(scan), str(other), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [one["model"]["run"] for one in answers] == ["dementia"] * 2


def test_explain_without_a_run(
    models: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--out", str(tmp_path / "maps"), "--methods", "gradient"]
    assert main(["explain", str(scan), *options]) == 0
    assert (tmp_path / "maps" / "new_T1w" / "saliency_gradient.nii.gz").exists()
    assert NOTICE in capsys.readouterr().out
    line = error(["explain", str(scan), str(scan), *options], capsys)
    assert f"{scan}: is not a run" in line


def test_a_misspelt_run_is_named_and_never_answered_by_another(
    models: Path, run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "runs" / "adni")
    line = error(["predict", str(tmp_path / "runs" / "adin"), str(scan)], capsys)
    assert "adin: does not exist, and no built-in model is called so (dementia or anatomy)" in line
    assert f"did you mean {tmp_path / 'runs' / 'adni'}?" in line
    assert "did you mean dementia?" in error(["predict", "demntia", str(scan)], capsys)
    line = error(["predict", str(tmp_path / "runs"), str(scan)], capsys)
    assert "is not a run, and contains no scan" in line
    assert f"name a run in it: {tmp_path / 'runs' / 'adni'}" in line
    shutil.rmtree(tmp_path / "runs" / "adni" / "model")
    assert "not finished" in error(["predict", str(tmp_path / "runs" / "adni"), str(scan)], capsys)


def test_no_scan_or_no_model(
    models: Path, run: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no scan given" in error(["predict"], capsys)
    assert "no scan given" in error(["predict", str(run)], capsys)
    assert "no scan given" in error(["predict", "dementia"], capsys)
    shutil.rmtree(models / "dementia")
    assert "no built-in model" in error(["predict", str(scan)], capsys)


def test_a_run_of_a_models_name_comes_first(
    models: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert catalog.named_run(Path("anatomy")) == models / "anatomy"
    shutil.copytree(run / "model", tmp_path / "anatomy" / "model")
    assert catalog.named_run(Path("anatomy")) == Path("anatomy")


def test_dicom_and_freesurfer_folders_are_scans(tmp_path: Path) -> None:
    assert not catalog.holds_scan(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing")
    assert not catalog.holds_scan(tmp_path)
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1").write_bytes(bytes(128) + b"DICM")
    assert catalog.holds_scan(tmp_path)
    (tmp_path / "bert" / "mri").mkdir(parents=True)
    assert catalog.holds_scan(tmp_path / "bert")


def test_the_list(
    models: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(run, tmp_path / "evaluated")
    assert main(["evaluate", str(run)]) == 0
    shutil.copy(run / "report.json", models / "dementia")
    capsys.readouterr()
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    first, second = listed["models"]
    assert (first["name"], first["default"]) == ("dementia", True)
    assert (second["name"], second["default"]) == ("anatomy", False)
    assert "Not evaluated" in second["measured"]
    auc = json.loads((run / "report.json").read_text())["metrics"]["auc"]
    assert first["metrics"]["auc"] == auc and first["measured"].startswith("AUC ")
    assert first["answers"] == ["CN", "AD"] and "12 people of 60 to 71 years" in first["trained_on"]
    seal = Run(models / "dementia").seal_path.read_bytes()
    assert first["sha256"] == hashlib.sha256(seal).hexdigest()
    files = [path for path in (run / "model").iterdir() if path.name != "SHA256SUMS"]
    assert first["bytes"] == sum(path.stat().st_size for path in files)
    assert main(["models"]) == 0
    table = capsys.readouterr().out
    assert NOTICE in table and first["sha256"][:16] in table and "dementia" in table
    (models / "anatomy" / "model" / "fold-0.safetensors").write_bytes(b"0")
    assert "SHA-256" in error(["models"], capsys)


def test_an_empty_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalog, "FOLDER", tmp_path)
    assert main(["models"]) == 0
    assert "no built-in model" in capsys.readouterr().out


@pytest.mark.parametrize("name", [path.name for path in find_runs(catalog.FOLDER)])
def test_the_scores_beside_a_shipped_model_are_of_its_scans(name: str) -> None:
    """Written by uncus.pipeline.model_card.packing when a model is packed."""
    model = Run(catalog.FOLDER / name)
    known, training = scores(model), model.card["training"]
    assert known is not None and len(known.labels) == training["scans"]
    for k, count in enumerate(training.get("classes", {}).values()):
        assert (known.labels == k).sum() == count
