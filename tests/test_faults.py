"""The start-up check names the versions that are known to be wrong or slow, and no others."""

import pytest
import torch

from pipeline import faults


@pytest.mark.parametrize(
    ("version", "cudnn", "wrong", "slow"),
    [
        ("2.13.0+cu130", 92000, 0, 0),
        ("2.9.1", 91300, 0, 1),
        ("2.10.0", 91002, 1, 0),
        ("2.8.0", 90800, 1, 0),
        ("2.8.0", 90705, 0, 0),
        ("2.13.0+cpu", None, 0, 0),
    ],
)
def test_known_faults(version: str, cudnn: int | None, wrong: int, slow: int) -> None:
    found = faults.known_faults(version, cudnn)
    assert tuple(map(len, found)) == (wrong, slow)


def test_only_bf16_on_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    faults.check_gpu("bf16-mixed")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    faults.check_gpu("32-true")
    with pytest.raises(ValueError, match=r"cuDNN 9\.10\.2 .* --precision 32"):
        faults.check_gpu("bf16-mixed")
