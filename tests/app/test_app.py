"""The web app: uploads are predicted, broken ones get one message, and no file remains."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.app.test_uploads import File
from tests.conftest import AFFINE, small_brain
from tests.pipeline.prediction.test_scan_report import VOLUMES
from uncus import NOTICE
from uncus.app import server, settings
from uncus.app.job_queue import Job
from uncus.app.sessions import SESSIONS
from uncus.app.uploaded_scan import DOWNLOADS, UploadedScan
from uncus.data import files
from uncus.pipeline.predict import Predictor
from uncus.pipeline.runs import Run

pytest.importorskip("streamlit", reason="the page needs the extra 'app'")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan like the training scans, of another subject."""
    path = tmp_path_factory.mktemp("scan") / "Jane Doe 1948_T1w.nii.gz"
    nib.save(nib.Nifti1Image(small_brain(99, ill=True), AFFINE), path)
    return path


@pytest.fixture(scope="module")
def served(run: Path) -> Iterator[Path]:
    """A job queue with the run's networks, as in the server."""
    yield run
    settings.job_queue_of(str(run)).close()
    settings.job_queue_of.cache_clear()


@pytest.fixture
def page(served: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The page as it opens; its temporary files are in ``tmp_path``."""
    from streamlit.testing.v1 import AppTest

    monkeypatch.setenv(settings.RUN_VARIABLE, str(served))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return AppTest.from_file(str(server.HOME), default_timeout=120).run()


def finished(page: Any) -> Any:
    """The page once its job has finished."""
    end = time.monotonic() + 240
    while page.session_state["scan"].job is not None:
        assert time.monotonic() < end
        time.sleep(0.1)
        page.run()
        assert not page.exception
    return page


def choice(page: Any, label: str) -> Any:
    """The menu of this label."""
    return next(box for box in page.selectbox if box.label == label)


def upload(page: Any, *files: tuple[str, bytes]) -> Any:
    """The page after the prediction of an upload."""
    uploader = page.file_uploader[0]
    for name, content in files:
        uploader.upload(name, content, "application/octet-stream")
    uploader.run()
    assert not page.exception
    return finished(page)


def texts(page: Any) -> str:
    """All texts of the page."""
    kinds = (
        "title",
        "header",
        "subheader",
        "markdown",
        "caption",
        "warning",
        "error",
        "success",
        "html",
    )
    return "\n".join(str(part.value) for kind in kinds for part in page.get(kind))


def viewers(page: Any) -> int:
    return len(page.get("component_instance"))


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_an_upload_is_predicted(page: Any, served: Path, scan: Path, tmp_path: Path) -> None:
    assert not page.exception and not page.error
    assert NOTICE in texts(page) and not viewers(page)
    upload(page, (scan.name, scan.read_bytes()))
    assert not page.error
    shown = texts(page)
    assert NOTICE in shown and "Not calibrated" in shown and "not a diagnosis" in shown
    assert "the patient" not in shown.lower()
    assert f"`{scan.name}`" in shown
    assert shown.count('class="uncus-axis"') == 1 and viewers(page) == 1
    order = [part.value for part in page.header]
    assert order == ["Result", "Evidence", "How far to trust it", "Download"]
    uploaded = page.session_state["scan"]
    assert uploaded.prediction["label"] == Predictor(served)(scan).label
    assert {path.name for path in files_in(tmp_path)} == {
        "scan.nii.gz",
        "shades.nii.gz",
        "map.nii.gz",
        "saliency.png",
        "scan.png",
        *DOWNLOADS.keys() - {"atlas.tsv", "volumes.tsv", "dseg.nii.gz", "dseg.tsv"},
    }  # regions are of registered scans only, volumes of segmented ones
    assert "map-0/scan.png" in shown
    assert all(uploaded.url(f"map-0/{n}") in shown for n in ("report.html", "report.pdf"))
    uploaded.close()
    assert not files_in(tmp_path) and SESSIONS.find(uploaded.token) is uploaded


def test_each_map_is_made_once(page: Any, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(page, (scan.name, scan.read_bytes()))
    uploaded = page.session_state["scan"]
    label, asked = uploaded.prediction["label"], []
    jobs = settings.job_queue()
    submit = jobs.submit

    def counted(job: Job) -> None:
        asked.append((job.request.method, job.request.target))
        submit(job)

    monkeypatch.setattr(jobs, "submit", counted)
    for method in ("gradient", "grad_cam", "gradient"):
        finished(choice(page, "Method").select(method).run())
    other = next(name for name in ("CN", "AD") if name != label)
    finished(choice(page, "Class").select(other).run())
    assert asked == [("gradient", label), ("gradient", other)]
    assert list(uploaded.maps) == [("grad_cam", label), *asked]
    assert not page.error


def test_a_method_that_failed_the_check_is_marked(page: Any, served: Path, scan: Path) -> None:
    upload(page, (scan.name, scan.read_bytes()))
    assert "were not checked" in texts(page) and not page.warning
    run = Run(served)
    reasons = {"grad_cam": [], "gradient": ["it is <b>blind</b>"]}
    verdicts = {
        m: {"verdict": "failed" if r else "passed", "reasons": r} for m, r in reasons.items()
    }
    try:
        passport = {"weights": run.weights_sums(), "methods": verdicts}
        files.write_json(run.passport_path, passport)
        finished(choice(page, "Method").select("gradient").run())
    finally:
        run.passport_path.unlink()
    (warning,) = page.warning
    assert "did not pass the check of this run" in warning.value and "<b>" not in warning.value
    shown = page.session_state["scan"].maps[
        "gradient", page.session_state["scan"].prediction["label"]
    ]
    folder = Path(page.session_state["scan"].folder.name) / shown["folder"]
    assert "did not pass the check" in (folder / "report.html").read_text()
    answer = files.read_json(folder / "prediction.json")
    assert answer["saliency_warnings"] == [answer["saliency_check"]]


def test_a_second_upload_during_a_map_replaces_the_first(
    page: Any, scan: Path, tmp_path: Path
) -> None:
    upload(page, (scan.name, scan.read_bytes()))
    first = page.session_state["scan"]
    choice(page, "Method").select("gradient").run()
    job = first.job
    while job.step != "Explaining":
        assert not job.finished
        time.sleep(0.005)
    upload(page, ("second.nii.gz", scan.read_bytes()))
    second = page.session_state["scan"]
    assert job.finished and not page.error and viewers(page) == 1
    assert second is not first and second.prediction["scan"] == "second.nii.gz"
    folders = {path.parents[-1 - len(tmp_path.parts)] for path in files_in(tmp_path)}
    assert folders == {Path(second.folder.name)}


def test_a_broken_scan_gets_one_message_and_the_page_works_on(
    page: Any, scan: Path, tmp_path: Path
) -> None:
    upload(page, (scan.name, scan.read_bytes()))
    upload(page, ("x_:red[a]_**b**.nii.gz", scan.read_bytes()[:300]))
    assert len(page.error) == 1 and not viewers(page)
    message = page.error[0].value
    assert message.startswith("No prediction for `x_:red[a]_**b**.nii.gz`: ")
    assert str(tmp_path) not in message and "Traceback" not in message
    upload(page, (scan.name, scan.read_bytes()))
    assert not page.error and viewers(page) == 1


def test_a_refused_scan_is_shown_with_the_reason(page: Any, tmp_path: Path) -> None:
    """A CT: it is read, so that it can be seen."""
    ct = np.random.default_rng(0).uniform(-1000, 1500, (24, 24, 24)).astype(np.float32)
    content = nib.Nifti1Image(ct, np.diag([4.0, 4, 4, 1])).to_bytes()
    upload(page, ("ct.nii", content))
    assert len(page.error) == 1 and not viewers(page)
    scan = page.session_state["scan"]
    assert scan.url("scan.png") in texts(page)
    assert {path.name for path in files_in(tmp_path)} == {"scan.nii", "scan.png"}
    scan.close()
    assert not files_in(tmp_path)


def volumes_script() -> None:
    import streamlit as st

    from uncus.app.pages import answer

    answer.picture(st.session_state["segmented"])
    answer.charts(st.session_state["segmented"])
    answer.volumes(st.session_state["segmented"])


def test_volumes_of_a_segmented_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.testing.v1 import AppTest

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scan = UploadedScan(tmp_path, [File("a.nii", b"0")])
    scan.error, scan.maps = "", {("grad_cam", "AD"): {"folder": "map-0"}}
    scan.prediction = {"warnings": [], "volumes": VOLUMES}
    page = AppTest.from_function(volumes_script, default_timeout=60)
    page.session_state["segmented"] = scan
    page.run()
    assert not page.exception
    (table,) = (part.value for part in page.dataframe)
    assert table.iloc[0].tolist() == ["left hippocampus", "2.46", "5 or less", "12", "−0.04"]
    assert "among men and" in texts(page).replace("\\", "") and "<img" not in texts(
        page
    )  # before its files are there
    folder = Path(scan.folder.name) / "map-0"
    folder.mkdir()
    for name in ("scan.png", "volumes.svg", "volumes-dark.svg"):
        (folder / name).write_bytes(b"0")
    shown = texts(page.run())
    assert "map-0/scan.png" in shown and "map-0/volumes.svg" in shown
    scan.close()


def test_no_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from streamlit.testing.v1 import AppTest

    monkeypatch.delenv(settings.RUN_VARIABLE, raising=False)
    page = AppTest.from_file(str(server.HOME), default_timeout=60).run()
    assert "uncus app RUN" in page.error[0].value and NOTICE in texts(page)
    monkeypatch.setenv(settings.RUN_VARIABLE, str(tmp_path))
    assert len(page.run().error) == 1 and not page.exception
