"""An H100 as Triton and torch see it, without one: kernels are compiled for it, not run."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as compile_kernel

from uncus.models.fused.launch import Launch

PROPERTIES = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    multi_processor_count=132,
    max_threads_per_multi_processor=2048,
    shared_memory_per_multiprocessor=228 * 1024,
)
TARGET = GPUTarget("cuda", 90, 32)
VOLUMES = {"x", "y", "dy", "dx", "residual", "other", "dresidual"}


class Compiled(NamedTuple):
    """What the compiler made: its code in PTX, and the resources of a program."""

    code: str
    registers: int
    spilled: int
    shared: int

    def count(self, pattern: str) -> int:
        """How often a regular expression occurs in the code."""
        return len(re.findall(pattern, self.code))


def compiled(launch: Launch, volumes: str = "bf16") -> Compiled:
    """The kernel of ``launch``, compiled as for tensors that start at multiples of 16 bytes."""
    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(launch.kernel.params):
        name, at = parameter.name, (i,)
        value = launch.rest.get(name)
        if name not in launch.rest:
            signature[name] = "*" + (volumes if name in VOLUMES else "fp32")
            attributes[at] = [["tt.divisibility", 16]]
        elif parameter.is_constexpr or value == 1:
            signature[name], constants[at] = "constexpr", value
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
            if value % 16 == 0:
                attributes[at] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature, constants, attributes)
    made = compile_kernel(source, target=TARGET, options={"num_warps": launch.warps})
    registers, spilled = resources(made.asm["cubin"])
    return Compiled(made.asm["ptx"], registers, spilled, made.metadata.shared)


def resources(cubin: bytes) -> tuple[int, int]:
    """Registers per thread, and bytes per thread that did not fit into them."""
    beside = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    tool = str(beside) if beside.exists() else shutil.which("cuobjdump")
    if tool is None:
        pytest.skip("cuobjdump, which reads registers from compiled code, is not installed")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [tool, "--dump-resource-usage", file.name]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", out)
    assert found, out
    return int(found[1]), int(found[2]) + int(found[3])


class Driver:
    """Compiles for an H100 and notes every launch instead of making it."""

    def __init__(self) -> None:
        self.launches: list[tuple[Any, ...]] = []
        self.loaded: list[str] = []
        self.utils = self

    def get_current_target(self) -> GPUTarget:
        return TARGET

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 7

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 227 * 1024}

    def load_binary(self, name: str, code: bytes, shared: int, device: int) -> tuple[Any, ...]:
        self.loaded.append(name)
        return name, name, resources(code)[0], 0, 1024

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        def launch(*given: Any) -> None:
            grid, stream, function, arguments = given[:3], given[3], given[4], given[9:]
            self.launches.append((grid, stream, function, arguments))

        return launch
