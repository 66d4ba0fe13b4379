"""torch.compile: the same training by compiled code; no compiler is told as such."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import TRAIN
from safetensors.torch import load_file

from pipeline.cli import main

ONCE = [*TRAIN, "--folds", "1", "--epochs", "1", "--dropout", "0", "--validation", "0"]
ONCE += ["--keep", "last", "--where", "age < 68"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs g++")
def test_a_compiled_network_learns_the_same(cohort: Path, tmp_path: Path) -> None:
    for name, more in (("plain", []), ("compiled", ["--compile"])):
        assert main(["train", str(cohort), str(tmp_path / name), *ONCE, *more]) == 0
    plain, compiled = (
        load_file(tmp_path / name / "model" / "fold-0.safetensors")
        for name in ("plain", "compiled")
    )
    assert plain.keys() == compiled.keys()
    for name, weights in plain.items():
        torch.testing.assert_close(compiled[name], weights, rtol=1e-3, atol=1e-4, msg=name)


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
