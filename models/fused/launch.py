# mypy: disable-error-code="no-untyped-call"
"""Triton kernels launched without the cost of Triton's JIT, and what the compiler says of them."""

from collections.abc import Mapping
from typing import Any

import torch
import triton
from torch import Tensor, nn

PLAIN = (Tensor, nn.Parameter)


class Launch:
    """A kernel with its grid and those arguments that stay the same from call to call.

    Triton's JIT inspects every argument in each call and looks the compiled kernel up, which takes
    longer than a small kernel runs. Here the compiled kernel is kept; only the alignment of the
    tensors, for which it was made, is verified. While torch traces, the kernel becomes part of the
    graph (``torch.library.wrap_triton``).

    Parameters
    ----------
    kernel: takes tensors, then other arguments.
    programs: their number.
    values: of all other arguments, by name; those of other kernels are left out.
    warps: per program.
    """

    def __init__(self, kernel: Any, programs: int, values: Mapping[str, Any], warps: int) -> None:
        self.kernel, self.grid, self.warps = kernel, (programs, 1, 1), warps
        self.tensors = [name for name in kernel.arg_names if name not in values]
        self.rest = {name: values[name] for name in kernel.arg_names if name in values}
        self.interpreted = not isinstance(kernel, triton.JITFunction)
        self._compiled: Any = None

    def __call__(self, *tensors: Tensor) -> None:
        if type(tensors[0]) not in PLAIN:
            self._launch(torch.library.wrap_triton(self.kernel), tensors)
        elif self.interpreted or any(tensor.data_ptr() % 16 for tensor in tensors):
            self._launch(self.kernel, tensors)
        elif self._compiled is None:
            self._compiled = self._launch(self.kernel, tensors)[self.grid]
        else:
            self._compiled(*tensors, *self.rest.values())

    def _launch(self, kernel: Any, tensors: tuple[Tensor, ...]) -> Any:
        return kernel[self.grid](*tensors, **self.rest, num_warps=self.warps)

    def resident(self, types: Mapping[str, torch.dtype], device: torch.device) -> int:
        """How many programs one multiprocessor holds, by what the compiler made of the kernel.

        ``types`` are the dtypes of the tensors by name; those left out are float32.
        """
        dtypes = [types.get(name, torch.float32) for name in self.tensors]
        made = self.kernel.warmup(*dtypes, grid=self.grid, **self.rest, num_warps=self.warps)
        assert made.run  # loads it; only then are the registers known
        return fitting(
            made.n_regs, made.metadata.shared, self.warps, torch.cuda.get_device_properties(device)
        )


def fitting(registers: int, shared: int, warps: int, device: Any) -> int:
    """Programs at once on one multiprocessor (CUDA C++ Programming Guide, compute capabilities).

    registers: per thread; a warp takes them in units of 256 from one quarter of the 65536.
    shared: bytes of shared memory per program; each takes another 1024.
    device: its properties in torch.
    """
    of_a_warp = -(-registers * 32 // 256) * 256
    by_registers = 65536 // 4 // of_a_warp * 4 // warps
    by_shared = device.shared_memory_per_multiprocessor // (shared + 1024)
    by_threads = device.max_threads_per_multi_processor // (32 * warps)
    return max(min(by_registers, int(by_shared), int(by_threads)), 1)
