"""``uncus app``: what it refuses before it listens, what it finds, what it tells the server."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.browser import served
from uncus.app import launch, run_catalog, server, settings
from uncus.pipeline.builtin import catalog
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run

Started = list[tuple[list[str], dict[str, str], str]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Started:
    """Calls of the server, which is not started; the demo is never made."""
    calls: Started = []

    def serve(arguments: list[str], variables: dict[str, str], folder: str, password: str) -> int:
        assert Path(folder).is_dir() and variables["TMPDIR"] == folder
        calls.append((arguments, variables, password))
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "serve", serve)
    return calls


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["app", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_refusals(
    run: Path,
    started: Started,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "does not exist" in refused([str(tmp_path / "none")], capsys)
    assert "is not a run" in refused([str(tmp_path)], capsys)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "--port" in refused([str(run), "--port", port], capsys)
    assert "65535" in refused([str(run), "--port", "70000"], capsys)
    assert "--address" in refused([str(run), "--address", "192.0.2.1"], capsys)
    (tmp_path / "empty").write_text("\n")
    assert "no password" in refused([str(run), "--password-file", "empty"], capsys)
    shutil.copytree(run, tmp_path / "damaged")
    (tmp_path / "damaged" / "model" / "fold-0.safetensors").write_bytes(b"0")
    assert "SHA-256" in refused([str(tmp_path / "damaged")], capsys)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "streamlit" else find(name)
    )
    assert "uncus[app]" in refused([str(run)], capsys)
    assert not started


def test_a_run_that_cannot_be_loaded_ends_the_app(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    other = Run(tmp_path / "run")
    card = json.loads(other.card_path.read_text())
    card["model"]["width"] = 512
    other.card_path.write_text(json.dumps(card))
    other.seal()
    command = [sys.executable, "-m", "uncus", "app", str(other.path), "--port", str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "these are weights of another network" in line


def test_the_demo_is_made_where_there_is_none(
    run: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def demo(self: object) -> int:
        made.append(self.out)  # type: ignore[attr-defined]
        shutil.copytree(run, self.out / "run")  # type: ignore[attr-defined]
        return 0

    monkeypatch.setattr("uncus.pipeline.demo.Demo.run", demo)
    monkeypatch.setattr(catalog, "FOLDER", run / "none")
    for _ in range(2):
        assert main(["app", "--port", str(free_port())]) == 0
    assert made == [Path("runs/demo")]
    variables = started[-1][1]
    assert Run(Path(variables[settings.RUN_VARIABLE])).verify()
    assert not Path(variables["TMPDIR"]).exists()


def test_without_a_run_it_opens_the_built_in_models(
    run: Path, started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    for name in ("anatomy", "dementia"):
        shutil.copytree(run / "model", models / name / "model")
    monkeypatch.setattr(catalog, "FOLDER", models)
    for given, first in (([], "dementia"), (["anatomy"], "anatomy"), ([str(run)], "")):
        assert main(["app", *given, "--port", str(free_port())]) == 0
        variables = started[-1][1]
        folder = models if first else run
        assert variables[settings.RUN_VARIABLE] == str(folder / first)
        assert variables[settings.FOLDER_VARIABLE] == str(folder)
    monkeypatch.setenv(settings.RUN_VARIABLE, str(models / "dementia"))
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(models))
    assert list(run_catalog.all_runs()) == ["dementia", "anatomy"]


def test_a_folder_of_runs_and_a_password(run: Path, started: Started, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "all" / "one")
    (tmp_path / "word").write_text("hush\nmore\n")
    port = str(free_port())
    assert main(["app", "all", "--port", port, "--password-file", "word"]) == 0
    ((arguments, variables, password),) = started
    assert variables[settings.RUN_VARIABLE] == str(tmp_path / "all" / "one")
    assert variables[settings.FOLDER_VARIABLE] == str(tmp_path / "all")
    assert password == "hush" and variables[settings.LOGIN_VARIABLE]
    # Anybody on the machine may list processes, and decoders inherit variables.
    assert "hush" not in " ".join([*arguments, *variables.values()])


def test_other_machines_need_a_password(
    run: Path, started: Started, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [str(run), "--port", str(free_port()), "--address"]
    for address in ("0.0.0.0", "::", socket.gethostbyname(socket.gethostname())):
        if address.startswith("127."):
            continue  # a machine whose name is its own alone
        message = refused([*given, address], capsys)
        assert "--password-file" in message and "--insecure" in message
    monkeypatch.setenv(settings.PASSWORD_VARIABLE, " \n")
    refused([*given, "0.0.0.0"], capsys)
    assert not started
    assert main(["app", *given, "127.0.0.2"]) == 0
    assert main(["app", *given, "0.0.0.0", "--insecure"]) == 0
    assert main(["app", *given, "0.0.0.0", "--user-header", "X-User"]) == 0
    monkeypatch.setenv(settings.PASSWORD_VARIABLE, "hush")
    assert main(["app", *given, "0.0.0.0"]) == 0
    assert [password for *_, password in started] == ["", "", "", "hush"]
    assert settings.PASSWORD_VARIABLE not in os.environ
    assert settings.PASSWORD_VARIABLE not in started[-1][1]


@pytest.mark.parametrize("end", [signal.SIGHUP, signal.SIGKILL])
def test_the_server_ends_with_its_command(run: Path, tmp_path: Path, end: signal.Signals) -> None:
    with served(run, tmp_path, end=end) as address:
        (folder,) = tmp_path.iterdir()
        (folder / "left").write_text("by a crash")
    if end != signal.SIGKILL:  # nobody is left to remove the folder then
        assert not folder.exists()
    latest = time.monotonic() + 60
    while time.monotonic() < latest:
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
        except OSError:
            return
        time.sleep(0.1)
    raise AssertionError("the server still answers")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_no_process_of_the_server_has_the_password(run: Path, tmp_path: Path) -> None:
    with served(run, tmp_path, **{settings.PASSWORD_VARIABLE: "hush-hush"}) as address:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(address)
        cookies = urllib.request.build_opener(urllib.request.HTTPCookieProcessor)
        with cookies.open(address, data=b"password=hush-hush") as answer:
            assert answer.status == 200
        folder = f"TMPDIR={tmp_path}".encode()
        environments = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                environments.append((process / "environ").read_bytes())
        ours = [content for content in environments if folder in content]
        assert len(ours) >= 3, "the command, the server and its worker"
        assert not any(b"hush-hush" in content for content in ours)


def test_settings_tell_strangers_nothing() -> None:
    found = server.settings("127.0.0.1", 8501)
    assert found["client.showErrorDetails"] == "none"
    assert found["browser.gatherUsageStats"] is False
    assert found["server.enableXsrfProtection"] is True
    assert launch.App().address == "127.0.0.1"
