"""Known faults of torch and cuDNN that spoil training in bf16; looked for before it starts."""

import re
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


def check_gpu(precision: str) -> None:
    """Refuse what computes wrongly and warn of what is slow, for training in ``precision``.

    Raises
    ------
    ValueError: this cuDNN's bf16 convolutions are wrong.
    """
    if not precision.startswith("bf16") or not torch.cuda.is_available():
        return
    cudnn: Any = torch.backends.cudnn
    wrong, slow = known_faults(torch.__version__, cudnn.version())
    if wrong:
        raise ValueError(f"{wrong[0]}; upgrade to torch 2.10 or newer, or give --precision 32")
    for fault in slow:
        warnings.warn(f"{fault}; upgrade to torch 2.10 or newer", stacklevel=2)
