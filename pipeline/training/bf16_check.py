"""Known faults of torch, cuDNN and oneDNN that spoil training in bf16; looked for at its start."""

import functools
import re
import subprocess
import sys
import warnings
from typing import Any

import torch


def known_faults(version: str, cudnn: int | None) -> tuple[list[str], list[str]]:
    """What is wrong and what is slow with bf16 convolutions of volumes on a GPU.

    Parameters
    ----------
    version: torch's, as "2.13.0+cu130".
    cudnn: cuDNN's, as ``torch.backends.cudnn.version()`` gives it (91000 is 9.10.0); None without.
    """
    wrong, slow = [], []
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) == (2, 9):
        slow.append(f"torch {version} has no fast bf16 conv3d (4 times slower, 3 times the memory)")
    if cudnn is not None and 90800 <= cudnn < 91100:
        name = f"{cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}"
        wrong.append(f"cuDNN {name} computes large bf16 conv3d wrongly")
    return wrong, slow


# Weight gradients of convolutions that a network meets at its coarsest, 50 times beside float32's:
# what is wrong there writes past its memory, and not always to the same effect.
ON_THIS_CPU = """
import torch
from torch.nn.functional import conv3d
for shape, stride in 50 * [((2, 2, 2), 1), ((4, 4, 1), 2), ((10, 1, 1), 2)]:
    exact = torch.randn(16, 16, 3, 3, 3).bfloat16().float().requires_grad_()
    x, half = torch.randn(1, 16, *shape).bfloat16(), exact.detach().bfloat16().requires_grad_()
    for weight in (exact, half):
        conv3d(x.to(weight.dtype), weight, stride=stride, padding=1).sum().backward()
    assert (half.grad.float() - exact.grad).norm() < 0.02 * exact.grad.norm()
"""


@functools.cache
def cpu_is_right() -> bool:
    """Whether bf16 convolutions of volumes have right gradients on this CPU.

    oneDNN 3.12 (torch 2.13) writes past its memory on CPUs with AVX-512 and without AMX. Tried in a
    process of its own, which that ends.
    """
    tried = subprocess.run([sys.executable, "-c", ON_THIS_CPU], capture_output=True, check=False)
    return tried.returncode == 0


def check_bf16(precision: str, on_gpu: bool) -> None:
    """Refuse what computes wrongly and warn of what is slow, for training in ``precision``.

    Raises
    ------
    ValueError: bf16 convolutions are wrong with this cuDNN, or on this CPU.
    """
    if not precision.startswith("bf16"):
        return
    if not on_gpu:
        if torch.backends.mkldnn.enabled and not cpu_is_right():
            raise ValueError(
                "bf16 convolutions have wrong gradients on this CPU (a fault of oneDNN); give "
                "--precision 32"
            )
        return
    cudnn: Any = torch.backends.cudnn
    wrong, slow = known_faults(torch.__version__, cudnn.version())
    if wrong:
        raise ValueError(f"{wrong[0]}; upgrade to torch 2.10 or newer, or give --precision 32")
    for fault in slow:
        warnings.warn(f"{fault}; upgrade to torch 2.10 or newer", stacklevel=2)
