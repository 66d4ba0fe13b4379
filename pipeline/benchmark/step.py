"""A training step of a ResNet: ours against MONAI's of the same shape with GroupNorm."""

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from uncus.data.augment import Augment
from uncus.data.transforms.augmentation import Augmentation
from uncus.models.activation_checkpointing import checkpoint_blocks
from uncus.models.backbones.resnet import DEPTHS
from uncus.models.base import count_parameters
from uncus.models.build import ModelConfig, build_model
from uncus.models.fused import layer
from uncus.models.swap import check_norms, swap_norm
from uncus.pipeline.timing import clear, fewer_on_cpu, matrix_rate
from uncus.pipeline.timing import measure as time_all
from uncus.pipeline.training.cuda_graphs import GraphedNetwork

GROUPS = 8
VOLUMES = ((96, 96, 96), (128, 128, 128), (160, 192, 160))
CASES = (
    *((18, batch, volume) for volume in VOLUMES for batch in (1, 2, 4)),
    *((50, batch, VOLUMES[1]) for batch in (1, 2)),
)
ON_A_CPU = ((18, 1, VOLUMES[0]),)
QUICK = ((18, 1, (16, 16, 16)),)


def ours(depth: int, width: int) -> nn.Module:
    """Our ResNet in the shape of the paper, which MONAI's has too."""
    config = ModelConfig(
        f"resnet{depth}",
        "group",
        GROUPS,
        width=width,
        dropout=0.0,
        stem_kernel=7,
        stem_pool=True,
        shortcut="B",
    )
    return build_model(config, seed=0)


def monai(depth: int, width: int) -> nn.Module:
    """MONAI's ResNet with every norm replaced: its own ``norm="group"`` leaves BatchNorm in it."""
    from monai.networks.nets.resnet import ResNet

    bottleneck, blocks = DEPTHS[depth]
    torch.manual_seed(0)
    network = ResNet(
        "bottleneck" if bottleneck else "basic",
        list(blocks),
        [width, 2 * width, 4 * width, 8 * width],
        n_input_channels=1,
        num_classes=2,
        conv1_t_size=7,
        conv1_t_stride=2,
        shortcut_type="B",
        bias_downsample=False,
    )
    swap_norm(network, "group", GROUPS)
    check_norms(network, "group", GROUPS)
    return network


@dataclass(frozen=True)
class Implementation:
    """A network and how its step is run."""

    build: Callable[[int, int], nn.Module] = ours
    layout: torch.memory_format = torch.contiguous_format
    fused: bool = True
    augmented: bool = False
    """Each step augments its batch first."""
    deterministic: bool = False
    """With the deterministic algorithms that ``uncus train`` uses."""
    low_memory: bool = False
    graphs: bool = False
    compiled: bool = False


REFERENCE = "uncus"
# The first is measured again at the end: the difference of its two times is the noise.
IMPLEMENTATIONS = {
    "uncus": Implementation(),
    "uncus, augmented": Implementation(augmented=True),
    "uncus deterministic": Implementation(deterministic=True),
    "uncus channels_last": Implementation(layout=torch.channels_last_3d),
    "uncus unfused": Implementation(fused=False),
    "uncus --memory low": Implementation(low_memory=True),
    "uncus graphs": Implementation(graphs=True),
    "uncus compiled": Implementation(compiled=True),
    "uncus compiled, graphs": Implementation(compiled=True, graphs=True),
    "monai": Implementation(monai, fused=False),
    "monai compiled": Implementation(monai, fused=False, compiled=True),
    "uncus again": Implementation(),
}


def cases(device: torch.device, quick: bool) -> list[dict[str, Any]]:
    """Every network, batch and volume; compiled only where an aim needs it."""
    gpu = device.type == "cuda"
    rate = {"matrix_product": "bfloat16" if gpu else "float32", "size": 8192 if gpu else 2048}
    return [rate] + [
        {
            "depth": depth,
            "width": 8 if quick else 64,
            "batch": batch,
            "volume": list(volume),
            "network": name,
        }
        for depth, batch, volume in (QUICK if quick else CASES if gpu else ON_A_CPU)
        for name, one in IMPLEMENTATIONS.items()
        if gpu or not (one.compiled or one.graphs)
        if not one.compiled or (volume == VOLUMES[1] and batch <= 2)
    ]


def gather(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """The part ``step`` of the report."""
    rate = next(row["flop_a_second"] for case, row in rows if "matrix_product" in case)
    measured = [{**case, **row} for case, row in rows if "network" in case]
    flop = {_shape(row): row["flop"] for row in measured if "flop" in row}
    for row in measured:
        if _shape(row) in flop:
            seconds = row["step_ms"]["median"] * 1e-3
            row["of_matrix_rate"] = flop[_shape(row)] / seconds / rate
    return {"groups": GROUPS, "matrix_tflop_s": rate / 1e12, "rows": measured}


def measure(case: dict[str, Any], device: torch.device, rounds: int) -> dict[str, Any]:
    """Time of a network's step (ms), peak memory (MiB) and, for the reference, its operations."""
    if "matrix_product" in case:
        kind = getattr(torch, case["matrix_product"])
        return {"flop_a_second": matrix_rate(device, kind, case["size"])}
    gc.collect()
    torch._dynamo.reset()
    one = IMPLEMENTATIONS[case["network"]]
    gpu = device.type == "cuda"
    with layer.switched(on=one.fused), deterministic(one.deterministic):
        step, parameters = _step(one, case, device)
        for _ in range(3):
            step()
        clear(device)
        timing = time_all({"step": step}, device, fewer_on_cpu(rounds, device))["step"]
        peak = torch.cuda.max_memory_allocated(device) / 2**20 if gpu else None
        row = {"step_ms": timing.as_dict(), "peak_mib": peak, "parameters": parameters}
        if case["network"] == REFERENCE:
            with FlopCounterMode(display=False) as counted:
                step()
            row["flop"] = counted.get_total_flops()
    return row


def _step(
    one: Implementation, case: dict[str, Any], device: torch.device
) -> tuple[Callable[[], None], int]:
    """A training step, the same for each implementation, and its number of parameters."""
    model: Any = one.build(case["depth"], case["width"]).train().to(device)
    parameters = count_parameters(model)
    model.to(memory_format=one.layout)
    if one.low_memory:
        checkpoint_blocks(model)
    if one.compiled:
        model.compile(dynamic=False, mode="reduce-overhead" if one.graphs else None)
    network: Any = model
    if one.graphs and not one.compiled:
        graphed = GraphedNetwork(model, accumulates=False)
        nothing = torch.zeros(case["batch"], 0, device=device)

        def network(volume: torch.Tensor) -> torch.Tensor:
            return graphed(volume, nothing)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    x = torch.randn(case["batch"], 1, *case["volume"], device=device)
    target = torch.arange(case["batch"], device=device) % 2

    scans = torch.arange(len(x))
    augmentation = Augmentation.of(Augment(), spacing=(1.0, 1.0, 1.0), seed=0)

    def step() -> None:
        volume = x
        if one.augmented:
            volume = augmentation({"volume": x, "scan": scans})["volume"]
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            loss: Any = F.cross_entropy(
                network(volume.contiguous(memory_format=one.layout)).float(), target
            )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, parameters


@contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """Deterministic algorithms, as in training, within the context."""
    settings: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(on, warn_only=True)
    settings.fill_uninitialized_memory = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic")
            yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        settings.fill_uninitialized_memory = before[1]


def table(part: dict[str, Any]) -> list[list[str]]:
    """Header and rows; ratios against MONAI's eager network in the same case."""
    out = [
        [
            "ResNet",
            "batch",
            "volume",
            "network",
            "step ms",
            "x monai",
            "peak MiB",
            "of monai",
            "of peak",
        ]
    ]
    peers = {_shape(row): row for row in part["rows"] if row["network"] == "monai"}
    for row in part["rows"]:
        time, peak, peer = row["step_ms"], row["peak_mib"], peers.get(_shape(row))
        out.append(
            [
                str(row["depth"]),
                str(row["batch"]),
                "x".join(map(str, row["volume"])),
                row["network"],
                f"{time['median']:.2f} [{time['low']:.2f}-{time['high']:.2f}]",
                f"{peer['step_ms']['median'] / time['median']:.2f}" if peer else "-",
                "-" if peak is None else f"{peak:.0f}",
                f"{peak / peer['peak_mib']:.2f}" if peer and peak is not None else "-",
                f"{row['of_matrix_rate']:.0%}" if "of_matrix_rate" in row else "-",
            ]
        )
    return out


def _shape(row: dict[str, Any]) -> tuple[int, ...]:
    return (row["depth"], row["batch"], *row["volume"])


def remarks(part: dict[str, Any]) -> list[str]:
    """Notes on the table."""
    return [
        "A step is forward, backward and AdamW, under bf16 autocast on a GPU, in float32 on a CPU;",
        "the peak includes weights, gradients and optimizer. `deterministic` uses the algorithms",
        "of `uncus train`, `graphs` replays the network's passes as CUDA graphs (`--graphs`),",
        "`augmented` includes the augmentation of each batch on the device.",
        "",
        "Roofline: nearly all operations of a step are convolutions. A large matrix product",
        f"reaches {part['matrix_tflop_s']:.3g} TFLOP/s here; `of peak` is the share of that rate",
        "which the whole step reaches. The rest is memory traffic with little arithmetic (norms,",
        "activations, additions, the optimizer) and, for short steps, Python.",
    ]
