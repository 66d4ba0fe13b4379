"""Known errors of torch, cuDNN and oneDNN in bf16, checked before training."""

import functools
import re
import subprocess
import sys
import warnings
from typing import Any

import torch


def known_faults(version: str, cudnn: int | None) -> tuple[list[str], list[str]]:
    """Wrong results, and slow ones, of bf16 3D convolutions on a GPU.

    Parameters
    ----------
    version: of torch, such as "2.13.0+cu130".
    cudnn: ``torch.backends.cudnn.version()``, where 91000 is 9.10.0; None without cuDNN.
    """
    wrong, slow = [], []
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) == (2, 9):
        slow.append(f"torch {version} has no fast bf16 conv3d (4 times slower, 3 times the memory)")
    if cudnn is not None and 90800 <= cudnn < 91500:
        name = f"cuDNN {cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}"
        if cudnn < 91100:
            wrong.append(f"{name} computes large bf16 conv3d wrongly")
        elif not slow:  # torch does not use it for these
            slow.append(f"torch {version} has no fast bf16 conv3d with {name} (from 9.15)")
    return wrong, slow


# Weight gradients of convolutions as in a network's coarsest layers, against float32's. 50 times,
# since a write out of bounds has another effect each time.
CPU_TRIAL = """
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
def cpu_is_correct() -> bool:
    """Whether bf16 3D convolutions have correct gradients on this CPU.

    oneDNN 3.12 (torch 2.13) writes out of bounds on CPUs with AVX-512 but without AMX. Tried in a
    separate process, which may crash.
    """
    trial = subprocess.run([sys.executable, "-c", CPU_TRIAL], capture_output=True, check=False)
    return trial.returncode == 0


def check_bf16(precision: str, on_gpu: bool) -> None:
    """Check training in ``precision`` on this machine, with a warning where it is slow.

    Raises
    ------
    ValueError: bf16 convolutions are wrong with this cuDNN, or on this CPU.
    """
    if not precision.startswith("bf16"):
        return
    if not on_gpu:
        if torch.backends.mkldnn.enabled and not cpu_is_correct():
            raise ValueError(
                "bf16 convolutions have wrong gradients on this CPU (an error of oneDNN); use "
                "--precision 32"
            )
        return
    cudnn: Any = torch.backends.cudnn
    wrong, slow = known_faults(torch.__version__, cudnn.version())
    if wrong:
        raise ValueError(f"{wrong[0]}; upgrade to torch 2.10 or newer, or use --precision 32")
    for fault in slow:
        warnings.warn(f"{fault}; upgrade to torch 2.10 or newer, with its cuDNN", stacklevel=2)
