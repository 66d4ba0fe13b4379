"""The form for prevalence and error level: the answer and its report follow."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from tests.conftest import AFFINE, small_brain
from uncus.app import server, settings
from uncus.app.sanitize import plain
from uncus.pipeline.predict import Predictor
from uncus.pipeline.trust.reliability import Setting

pytest.importorskip("streamlit", reason="the page needs the extra 'app'")


@pytest.fixture
def page(sure_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The page with the prediction of an uploaded scan."""
    from streamlit.testing.v1 import AppTest

    monkeypatch.setenv(settings.RUN_VARIABLE, str(sure_run))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(small_brain(99, ill=True), AFFINE), path)
    opened = AppTest.from_file(str(server.HOME), default_timeout=120).run()
    opened.file_uploader[0].upload(path.name, path.read_bytes(), "application/gzip").run()
    yield finished(opened)
    settings.job_queue().close()
    settings.job_queue_of.cache_clear()


def finished(page: Any) -> Any:
    """The page once its job has finished."""
    end = time.monotonic() + 240
    while page.session_state["scan"].job is not None:
        assert time.monotonic() < end
        time.sleep(0.2)
        page.run()
        assert not page.exception
    return page.run()


def field(page: Any, label: str) -> Any:
    return next(one for one in page.number_input if one.label.startswith(label))


def test_the_answer_follows_the_prevalence(page: Any, sure_run: Path, tmp_path: Path) -> None:
    scan = page.session_state["scan"]
    before = scan.prediction
    assert field(page, "Share of AD").value == pytest.approx(before["prevalence"]["AD"])
    field(page, "Share of AD").set_value(0.05)
    field(page, "Error level").set_value(0.3)
    next(one for one in page.button if one.label == "Judge again").click().run()
    finished(page)
    after = scan.prediction
    assert after["prevalence"]["AD"] == pytest.approx(0.05) and after["error_level"] == 0.3
    want = Predictor(sure_run, segment=None)(
        tmp_path / "scan.nii.gz", setting=Setting({"AD": 0.05}, 0.3)
    )
    assert after["probabilities"] == pytest.approx(want.probabilities, abs=1e-4)
    assert after["probabilities"]["AD"] < before["probabilities"]["AD"]
    shown = "\n".join(str(part.value) for part in page.markdown)
    assert plain("95% cognitively normal, 5% Alzheimer's-type dementia") in shown
    assert scan.maps
    for facts in scan.maps.values():
        folder = Path(scan.folder.name) / facts["folder"]
        answer = json.loads((folder / "prediction.json").read_text())
        assert answer["prevalence"] == after["prevalence"]
        assert "95% cognitively normal, 5% Alzheimer" in (folder / "report.html").read_text()
    scan.close()
