"""The child process is limited in time and memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dicom_files import save, series
from uncus.data.dicom.reader import read_series
from uncus.data.dicom.sandbox import ROOT, ProcessLimits, run
from uncus.data.errors import BadInput


def test_the_child_process_is_limited(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    with pytest.raises(BadInput, match=r"more than 0\.01 s to decode"):
        read_series([folder], limits=ProcessLimits(seconds=0.01))


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS cannot limit the address space")
def test_its_memory_is_limited(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    with pytest.raises(BadInput, match=r"memory|crash"):
        read_series([folder], limits=ProcessLimits(memory=1 << 27))


def environment_of_the_child(folder: Path) -> list[str]:
    """A task."""
    del folder
    return list(os.environ.values())


def test_it_inherits_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANY_TOKEN", "hush")
    task = f"{__name__}:environment_of_the_child"
    with run(task, {}, "a scan") as (_, values):
        assert values and "hush" not in values


def test_the_parent_needs_no_resource_module_and_knows_its_package() -> None:
    """Limits are set in the child alone, which imports the package from ROOT."""
    code = "import sys; sys.modules['resource'] = None; import uncus.data.dicom.reader"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert (ROOT / "uncus" / "data" / "dicom" / "sandbox.py").is_file()
