"""The web page: an upload is answered, a broken one refused in words, nothing of it stays."""

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
from conftest import AFFINE, small_brain

from app import launch
from app.visit import Desk, Visit, harmless, plain
from pipeline.cli import main
from pipeline.notice import NOTICE
from pipeline.predict import Predictor
from pipeline.runs import Run

pytest.importorskip("streamlit", reason="the page needs the extra 'app'")

PAGE = Path(launch.__file__).with_name("page.py")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan like those trained on, of nobody among them."""
    path = tmp_path_factory.mktemp("scan") / "Jane Doe 1948_T1w.nii.gz"
    nib.save(nib.Nifti1Image(small_brain(99, ill=True), AFFINE), path)
    return path


@pytest.fixture
def page(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The page as a first visitor finds it; its temporary files go to ``tmp_path``."""
    from streamlit.testing.v1 import AppTest

    monkeypatch.setenv(launch.RUN_VARIABLE, str(run))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return AppTest.from_file(str(PAGE), default_timeout=60).run()


def texts(page: Any) -> str:
    """All that the page says."""
    kinds = ("title", "subheader", "markdown", "caption", "warning", "error", "html")
    return "\n".join(str(part.value) for kind in kinds for part in page.get(kind))


def pictures(page: Any) -> int:
    return len(page.get("image"))


def test_an_upload_is_answered(page: Any, run: Path, scan: Path, tmp_path: Path) -> None:
    assert not page.exception and not page.error
    assert NOTICE in texts(page) and not pictures(page)
    page.file_uploader[0].upload(scan.name, scan.read_bytes(), "application/gzip").run()
    assert not page.exception and not page.error
    said = texts(page)
    assert NOTICE in said and "Not calibrated" in said and "not a diagnosis" in said
    assert f"`{scan.name}`" in said
    assert len(page.get("vega_lite_chart")) == 1 and pictures(page) == 1
    assert len(page.get("download_button")) == 3
    on_disk = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(on_disk) == ["prediction.json", "saliency.nii.gz", "saliency.png"]
    assert page.session_state["visit"].prediction.label == Predictor(run)(scan).label


def test_each_map_is_made_once(
    page: Any, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, str | None]] = []
    explain = Predictor.explain

    def counted(self: Any, prediction: Any, method: str, name: str | None = None) -> Any:
        made.append((method, name))
        return explain(self, prediction, method, name)

    monkeypatch.setattr(Predictor, "explain", counted)
    page.file_uploader[0].upload(scan.name, scan.read_bytes()).run()
    label = page.session_state["visit"].prediction.label
    for method in ("gradient", "grad_cam", "gradient"):
        page.selectbox[0].select(method).run()
    other = next(name for name in ("CN", "AD") if name != label)
    page.selectbox[1].select(other).run()
    assert made == [("grad_cam", label), ("gradient", label), ("gradient", other)]
    assert not page.error


def test_a_broken_scan_gets_one_message_and_the_page_goes_on(
    page: Any, scan: Path, tmp_path: Path
) -> None:
    uploader = page.file_uploader[0]
    uploader.upload(scan.name, scan.read_bytes()).run()
    page.file_uploader[0].upload("x_:red[a]_**b**.nii.gz", scan.read_bytes()[:300]).run()
    assert not page.exception and len(page.error) == 1 and not pictures(page)
    message = page.error[0].value
    assert message.startswith("`x_:red[a]_**b**.nii.gz` is refused: ")
    assert str(tmp_path) not in message and "Traceback" not in message
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    page.file_uploader[0].upload(scan.name, scan.read_bytes()).run()
    assert not page.error and pictures(page) == 1


def test_no_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from streamlit.testing.v1 import AppTest

    monkeypatch.delenv(launch.RUN_VARIABLE, raising=False)
    page = AppTest.from_file(str(PAGE)).run()
    assert "uncus app RUN" in page.error[0].value and NOTICE in texts(page)
    monkeypatch.setenv(launch.RUN_VARIABLE, str(tmp_path))
    assert len(page.run().error) == 1 and not page.exception


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b.nii.gz", "a b.nii.gz"),
        ("../../etc/x.nii", "x.nii"),
        ("C:\\scans\\x.nii", "x.nii"),
        ("a\u202egz.iin\n`*.nii", "agz.iin'*.nii"),
        ("", "unnamed"),
    ],
)
def test_names_are_harmless(name: str, shown: str) -> None:
    assert harmless(name) == shown
    assert len(harmless("x" * 1000 + ".nii.gz")) <= 48
    assert plain("[a](b) <i>") == r"\[a\]\(b\) \<i\>"


def test_a_visit_uses_no_name_of_the_visitors_and_leaves_nothing(run: Path, scan: Path) -> None:
    visit = Visit("../../" + "x" * 1000 + ".NII.GZ", scan.read_bytes())
    folder = Path(visit.folder.name)
    assert [path.name for path in folder.iterdir()] == ["scan.nii.gz"]
    assert folder.stat().st_mode & 0o077 == 0
    steps: list[str] = []
    visit.predict(Desk(Predictor(run)), steps.append)
    assert steps == ["Reading", "Reading and placing", "Predicting"]
    assert visit.prediction is not None and not list(folder.iterdir())
    visit.close()
    assert not folder.exists()
    other = Visit("notes.txt", b"hello")
    assert ".nii.gz" in other.refusal and not list(Path(other.folder.name).iterdir())
    left = Path(other.folder.name)
    del other
    assert not left.exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["app", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_launch_refusals(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "serve", lambda *_: pytest.fail("started"))
    assert "uncus demo" in refused([], capsys)
    assert "uncus demo" in refused([str(tmp_path / "none")], capsys)
    assert "is not a run" in refused([str(tmp_path)], capsys)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "--port" in refused([str(run), "--port", port], capsys)
    assert "65535" in refused([str(run), "--port", "70000"], capsys)
    assert "--address" in refused([str(run), "--address", "192.0.2.1"], capsys)
    shutil.copytree(run, tmp_path / "damaged")
    (tmp_path / "damaged" / "model" / "fold-0.safetensors").write_bytes(b"0")
    assert "SHA-256" in refused([str(tmp_path / "damaged")], capsys)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "streamlit" else find(name)
    )
    assert "uncus[app]" in refused([str(run)], capsys)


def test_launch_finds_the_demo(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[dict[str, str]] = []

    def serve(arguments: list[str], variables: dict[str, str], folder: str) -> int:
        started.append(variables)
        assert Path(folder).is_dir() and variables["TMPDIR"] == folder
        assert "--client.showErrorDetails=none" in arguments
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "serve", serve)
    shutil.copytree(run, tmp_path / "runs" / "demo" / "run")
    assert main(["app", "--port", str(free_port())]) == 0
    (variables,) = started
    assert Run(Path(variables[launch.RUN_VARIABLE])).verify()
    assert not Path(variables["TMPDIR"]).exists()


@contextlib.contextmanager
def served(run: Path, folder: Path) -> Iterator[str]:
    """``uncus app`` in a process of its own; its address."""
    port = free_port()
    code = "import sys; from pipeline.cli import main; sys.exit(main())"
    arguments = [sys.executable, "-c", code, "app", str(run), "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    variables = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(arguments, env=variables, cwd=PAGE.parents[1]) as server:
        try:
            for _ in range(300):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
                    break
                assert server.poll() is None
                time.sleep(0.1)
            yield address
        finally:
            server.terminate()
            server.wait(20)


def test_in_a_browser(run: Path, scan: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    browsers = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(scan.read_bytes()[:200])
    files = tmp_path / "files"
    files.mkdir()
    flags = ["--no-sandbox", "--disable-background-networking"]
    flags += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(served(run, files))
        playwright = stack.enter_context(browsers.sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        stack.callback(browser.close)
        page = browser.new_page(viewport={"width": 1100, "height": 1000})
        page.set_default_timeout(120_000)  # of a machine with other work
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        upload = page.locator("input[type=file]")
        upload.set_input_files(scan)
        picture = page.locator("[data-testid=stImage] img")
        picture.wait_for()
        page.wait_for_function(
            "() => document.querySelector('[data-testid=stImage] img').naturalWidth > 500"
        )
        assert page.get_by_text(NOTICE).is_visible()
        assert page.get_by_text("share of the networks' vote").first.is_visible()
        page.locator("[data-testid=stVegaLiteChart]").locator("canvas, svg").first.wait_for()
        with page.expect_download() as download:
            page.get_by_role("button", name="prediction.json").click()
        assert '"probabilities"' in Path(download.value.path()).read_text()
        upload.set_input_files(broken)
        page.get_by_text("is refused").wait_for()
        assert page.locator("[data-testid=stAlert]").count() == 1
        assert picture.count() == 0
        assert page.get_by_text(NOTICE).is_visible()
        assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not list(files.rglob("*.nii*")) and not list(files.glob("uncus-*"))
