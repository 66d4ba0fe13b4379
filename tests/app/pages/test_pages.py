"""The pages: runs, model card, several scans, and covariates."""

import csv
import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from tests.conftest import AFFINE, TRAIN, small_brain
from uncus import NOTICE
from uncus.app import server, settings
from uncus.app.pages import batch
from uncus.app.pages.batch import to_csv
from uncus.app.sanitize import plain
from uncus.data import files
from uncus.pipeline.cli import main
from uncus.pipeline.predict import Predictor
from uncus.pipeline.rendering.numbers import estimate_text
from uncus.pipeline.runs import Run

pytest.importorskip("streamlit", reason="the page needs the extra 'app'")


@pytest.fixture(scope="module")
def folder(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, one evaluated, the other with the covariates age and sex."""
    root = tmp_path_factory.mktemp("runs")
    assert main(["train", str(cohort), str(root / "plain"), *TRAIN]) == 0
    assert main(["evaluate", str(root / "plain")]) == 0
    assert (
        main(["train", str(cohort), str(root / "aged"), *TRAIN, "--covariates", "age", "sex"]) == 0
    )
    (root / "aged" / "report.json").unlink(missing_ok=True)
    return root


@pytest.fixture
def serve(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Makes the page with a given run; its files are in ``tmp_path``."""
    from streamlit.testing.v1 import AppTest

    def page(run: str, script: Any = None) -> Any:
        monkeypatch.setenv(settings.RUN_VARIABLE, str(folder / run))
        monkeypatch.setenv(settings.FOLDER_VARIABLE, str(folder))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        if script is None:
            return AppTest.from_file(str(server.HOME), default_timeout=120).run()
        return AppTest.from_function(script, default_timeout=120).run()

    yield page
    if settings.job_queue_of.cache_info().currsize:
        settings.job_queue().close()
        settings.job_queue_of.cache_clear()


def runs_script() -> None:
    from uncus.app.pages import runs

    runs.page()


def card_script() -> None:
    from uncus.app.pages import card

    card.page()


def test_runs_side_by_side(serve: Any, folder: Path) -> None:
    page = serve("plain", runs_script)
    assert not page.exception and not page.error
    overview, measured = (table.value for table in page.dataframe)
    assert set(overview["run"]) == {"plain", "aged"}
    assert set(overview["predicts"]) == {"cognitively normal or Alzheimer's-type dementia"}
    assert all(text.startswith("12 ") for text in overview["trained on"])
    metrics = files.read_json(folder / "plain" / "report.json")["metrics"]
    assert list(measured.columns) == ["metric", "plain"] and len(measured) == len(metrics)
    assert set(measured["plain"]) == {estimate_text(metric) for metric in metrics.values()}
    figures = [part.value for part in page.get("html") if "svg+xml" in str(part.value)]
    assert len(figures) >= 3  # ROC, calibration, training


def test_the_model_card(serve: Any, folder: Path) -> None:
    page = serve("plain", card_script)
    assert not page.exception and not page.error
    run = Run(folder / "plain")
    shown_text = "\n".join(str(part.value) for part in page.markdown)
    assert shown_text in run.model_card_path.read_text(encoding="utf-8")  # below its header
    assert "| subjects | 12 |" in shown_text and run.card["versions"]["torch"] in shown_text
    assert all(f"| model/{name} | {value} |" in shown_text for name, value in run.verify().items())
    assert "not a medical device" in shown_text and "Not calibrated" in shown_text
    assert "saliency methods of this run were not checked" in shown_text
    other = serve("aged", card_script)
    shown_text = "\n".join(str(part.value) for part in other.markdown)
    assert "Not evaluated" in shown_text and not other.exception


def press(page: Any, label: str) -> None:
    next(button for button in page.button if button.label == label).click().run()
    assert not page.exception


def test_several_scans_and_their_table(serve: Any, folder: Path, tmp_path: Path) -> None:
    page, contents = serve("plain"), {}
    for seed in (98, 99):
        path = tmp_path / f"{seed}.nii.gz"
        nib.save(nib.Nifti1Image(small_brain(seed, ill=seed == 99), AFFINE), path)
        contents[path.name] = path.read_bytes()
    broken = "=cmd.nii.gz"
    uploader = page.file_uploader[1]
    for name, content in [*contents.items(), (broken, contents["98.nii.gz"][:200])]:
        uploader.upload(name, content, "application/gzip")
    uploader.run()
    end = time.monotonic() + 240
    while any(v.prediction is None and not v.error for v in page.session_state["batch"]):
        assert time.monotonic() < end and not page.exception
        time.sleep(0.1)
        page.run()
    page.run()
    scans = page.session_state["batch"]
    shown = page.dataframe[0].value.set_index("scan")
    assert [state.partition(" in ")[0] for state in shown["state"]] == ["done", "done", "failed"]
    assert not (shown == "None").any(axis=None) and not shown.isna().any(axis=None)
    assert shown.loc[broken, "answer"] == f"Refused: {scans[2].error}"
    shown_text = "\n".join(str(part.value) for part in page.markdown)
    assert f"`{broken}`: " in shown_text and plain(scans[2].error) in shown_text
    predictor = Predictor(folder / "plain")
    for name in contents:
        want = predictor(tmp_path / name).probabilities["AD"]
        assert shown.loc[name, "probability of Alzheimer's-type dementia"].startswith(f"{want:.2f}")
    rows = list(csv.DictReader(io.StringIO(to_csv(scans))))
    assert [row["scan"] for row in rows] == [*contents, f"'{broken}"]
    assert all(row["notice"] == NOTICE for row in rows)
    assert rows[2]["warnings and errors"] and not rows[2]["AD"]
    press(page, "Make the reports")
    while any(scan.prediction and not scan.maps for scan in scans):
        assert time.monotonic() < end and not page.exception
        time.sleep(0.1)
        page.run()
    with zipfile.ZipFile(io.BytesIO(batch.reports(scans))) as archive:
        assert archive.namelist() == ["01-98.html", "01-98.pdf", "02-99.html", "02-99.pdf"]
        assert b"99.nii.gz" in archive.read("02-99.html")
    press(page, "Clear the table")
    assert "batch" not in page.session_state
    assert not [path for path in tmp_path.glob("uncus-*") if path.is_dir()]


def test_covariates_are_used(serve: Any, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(small_brain(99, ill=True), AFFINE), path)
    page = serve("aged")
    assert [box.label for box in page.number_input] == ["Age in years"]
    page.number_input[0].set_value(66)
    next(box for box in page.selectbox if box.label == "Sex").select("F")
    page.file_uploader[0].upload(path.name, path.read_bytes(), "application/gzip").run()
    end = time.monotonic() + 240
    while page.session_state["scan"].job is not None:
        assert time.monotonic() < end and not page.exception
        time.sleep(0.1)
        page.run()
    answer = page.session_state["scan"].prediction
    want = Predictor(folder / "aged")(path, covariates={"age": 66, "sex": "F"})
    assert (
        answer["covariates"] == want.as_dict()["covariates"] and answer["covariates"]["age"] == 66
    )
    assert answer["probabilities"]["AD"] == pytest.approx(want.probabilities["AD"], abs=1e-3)
    page.session_state["scan"].close()
    assert list(tmp_path.iterdir()) == [path]
