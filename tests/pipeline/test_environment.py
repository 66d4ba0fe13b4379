"""The environment of a run: versions, and the CPUs that may be used."""

import io
import os
import re
import shutil
import subprocess
import sys
import warnings
from datetime import datetime, timedelta

import pytest
import torch

from uncus import __version__
from uncus.pipeline import environment
from uncus.pipeline.cli import main


def test_versions_are_those_of_the_installed_packages() -> None:
    versions = environment.versions()
    assert set(versions) == {"python", *environment.PACKAGES}
    assert versions["torch"] == torch.__version__ and versions["uncus"] == __version__
    assert sys.version.startswith(versions["python"])


def test_only_cpus_that_may_be_used_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 5, 7}, raising=False)
    assert environment.cpu_count() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert environment.cpu_count() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert environment.cpu_count() == 1


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "nvidia-smi" in environment.why_no_gpu() and "--gpus" in environment.why_no_gpu()
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "CUDA build" in environment.why_no_gpu()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert environment.why_no_gpu() == ""


def test_a_device_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert environment.torch_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, cause in (
        ("cuda:99", environment.why_no_gpu()),
        ("nonsense", "cannot be used (Expected one of cpu, cuda"),
        ("meta", "cannot be used"),
    ):
        for verb in (["evaluate", "run", "--robust"], ["explain", "run", "--check"]):
            assert main([*verb, "--device", name]) == 2
            error = capsys.readouterr().err
            assert f"--device {name}: {cause}" in error and error.count("\n") == 1


def test_a_terminal_prints_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    environment.adapt()
    print("0.5 ± 0.1", flush=True)
    assert stream.buffer.getvalue() == b"0.5 ? 0.1\n"


UNNAMED = ["unshare", "--user", "--map-user=54321", "env", "-i", f"PATH={os.environ['PATH']}"]


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*UNNAMED, "true"], check=False).returncode != 0,
    reason="no user namespaces here",
)
@pytest.mark.parametrize("home", [(), ("HOME=/nonexistent",)])
def test_a_user_without_name_and_home(home: tuple[str, ...]) -> None:
    """As in containers and batch jobs; MONAI asks for the name when it is imported."""
    code = "from uncus.pipeline import environment; environment.adapt()\n"
    code += "import getpass, matplotlib as m; print(getpass.getuser(), m.get_configdir()[:5])"
    variables = [*home, f"PYTHONPATH={os.pathsep.join(filter(None, sys.path))}"]
    command = [*UNNAMED, *variables, sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "uid54321 /tmp/\n", "")


def test_a_call_has_its_date_command_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/uncus", "train", "my cohort", "--lr", "1"])
    call = environment.this_call()
    assert call["command"] == "uncus train 'my cohort' --lr 1"
    assert datetime.fromisoformat(call["date"]).utcoffset() == timedelta(0)
    assert call["code"] == environment.code_version()
    assert re.fullmatch(re.escape(__version__) + r"(, commit \S+)?", call["code"])


def test_threads_do_not_spin_unless_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    environment.adapt()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    environment.adapt()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def printed(code: str) -> list[str]:
    """The words that ``code`` prints in a process of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_imports_are_not_searched_for_garbage() -> None:
    found = printed("""
import gc
searched = []
gc.callbacks.append(lambda phase, info: searched.append(info["generation"]))
from uncus.pipeline.cli import main
main(["predict", "nothing.nii"])
print(gc.isenabled(), searched.count(2), gc.get_freeze_count() > 100_000)
""")
    assert found == ["True", "0", "True"]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_is_used_again() -> None:
    """Pages that the system must clear are counted as faults."""
    code = """
import resource
from uncus.pipeline.environment import keep_memory
{}
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(64 << 20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    first, second = map(int, printed(code.format("keep_memory()")))
    assert second < first / 100
    first, second = map(int, printed(code.format("")))
    assert second > first / 2


def test_a_warning_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", None)
    environment.adapt()
    said = warnings.formatwarning("a\n\x1b[2Jb", UserWarning, "file.py", 1)
    assert said == "warning: a [2Jb\n"
