"""Training by compiled code or in another layout is the same; no compiler is told as such."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import TRAIN
from uncus.pipeline.cli import main

ONCE = [*TRAIN, "--folds", "1", "--epochs", "1", "--dropout", "0", "--validation", "0"]
ONCE += ["--keep", "last", "--where", "age < 68"]


@pytest.mark.parametrize("option", ["--compile", "--channels-last"])
def test_a_network_that_is_run_otherwise_learns_the_same(
    option: str, cohort: Path, tmp_path: Path
) -> None:
    if option == "--compile" and shutil.which("g++") is None:
        pytest.skip("torch.compile on a CPU needs g++")
    for name, more in (("plain", []), ("other", [option])):
        assert main(["train", str(cohort), str(tmp_path / name), *ONCE, *more]) == 0
    plain, other = (
        load_file(tmp_path / name / "model" / "fold-0.safetensors") for name in ("plain", "other")
    )
    assert plain.keys() == other.keys()
    for name, weights in plain.items():
        torch.testing.assert_close(other[name], weights, rtol=1e-3, atol=1e-4, msg=name)


def test_no_compiler_is_told(
    cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    assert main(["train", str(cohort), str(tmp_path / "run"), *ONCE, "--compile"]) == 2
    said = capsys.readouterr().err
    assert "--compile: " in said and "leave it out" in said and "Traceback" not in said
