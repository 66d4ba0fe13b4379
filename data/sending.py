"""Small tensors to a GPU, without waiting for what it is computing."""

import torch
from torch import Tensor


def sent(values: Tensor, device: torch.device) -> Tensor:
    """``values`` (on the CPU) on ``device``.

    An ordinary copy to a GPU waits until all that it was asked for is done, and the GPU then waits
    for the next to be asked; one from pinned memory is queued like the rest.
    """
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
