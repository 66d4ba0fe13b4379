"""The check before training in bf16."""

from pathlib import Path

import pytest
import torch

from tests.conftest import TRAIN
from uncus.pipeline.cli import main
from uncus.pipeline.training import bf16_check


@pytest.mark.parametrize(
    ("version", "cudnn", "wrong", "slow"),
    [
        ("2.13.0+cu130", 92000, 0, 0),
        ("2.9.1", 91300, 0, 1),
        ("2.10.0", 91300, 0, 1),
        ("2.10.0", 91500, 0, 0),
        ("2.10.0", 91002, 1, 0),
        ("2.8.0", 90800, 1, 0),
        ("2.8.0", 90705, 0, 0),
        ("2.13.0+cpu", None, 0, 0),
    ],
)
def test_known_faults(version: str, cudnn: int | None, wrong: int, slow: int) -> None:
    faults = bf16_check.known_faults(version, cudnn)
    assert tuple(map(len, faults)) == (wrong, slow)


def test_bf16_with_a_wrong_cudnn_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    bf16_check.check_bf16("32-true", on_gpu=True)
    with pytest.raises(ValueError, match=r"cuDNN 9\.10\.2 .* --precision 32"):
        bf16_check.check_bf16("bf16-mixed", on_gpu=True)


def test_a_cpu_is_tried_before_it_trains_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error where oneDNN is wrong, but not with torch's own convolutions."""
    for trial, correct in (("", True), ("raise SystemExit(1)", False), ("os.abort()", False)):
        bf16_check.cpu_is_correct.cache_clear()
        monkeypatch.setattr(bf16_check, "CPU_TRIAL", "import os\n" + trial)
        assert bf16_check.cpu_is_correct() is correct
    bf16_check.check_bf16("32-true", on_gpu=False)
    with pytest.raises(ValueError, match=r"on this CPU .* --precision 32"):
        bf16_check.check_bf16("bf16-mixed", on_gpu=False)
    with torch.backends.mkldnn.flags(enabled=False):
        bf16_check.check_bf16("bf16-mixed", on_gpu=False)
    bf16_check.cpu_is_correct.cache_clear()


def test_after_an_error_the_folder_can_be_used(
    cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bf16_check, "cpu_is_correct", lambda: False)
    command = ["train", str(cohort), str(tmp_path / "run"), *TRAIN, "--epochs", "1"]
    assert main([*command, "--precision", "bf16"]) == 2
    assert "wrong gradients on this CPU" in capsys.readouterr().err
    assert main([*command, "--precision", "32"]) == 0


def test_convolutions_of_torch_pass_the_trial() -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        exec(bf16_check.CPU_TRIAL, {})
