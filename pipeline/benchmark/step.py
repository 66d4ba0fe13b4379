"""A training step of a ResNet: ours against MONAI's of the same shape, with GroupNorm in it."""

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

from uncus.data import augment
from uncus.data.augment import Augment
from uncus.models.activation_checkpointing import save_memory
from uncus.models.backbones.resnet import DEPTHS
from uncus.models.base import count_parameters
from uncus.models.build import ModelConfig, build_model
from uncus.models.fused import layer
from uncus.models.swap import check_norms, swap_norm
from uncus.pipeline.timing import clear, few, matrix_rate
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
    """Our ResNet in the shape of the paper, which is MONAI's too."""
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
    """MONAI's ResNet with its norms really replaced: ``norm="group"`` leaves BatchNorm in it."""
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
class Contestant:
    """A network and how its step is run."""

    build: Callable[[int, int], nn.Module] = ours
    layout: torch.memory_format = torch.contiguous_format
    fused: bool = True
    augmented: bool = False
    """Each step augments its batch first."""
    deterministic: bool = False
    """With the algorithms that ``uncus train`` asks for, which give the same bits again."""
    low_memory: bool = False
    graphs: bool = False
    compiled: bool = False


REFERENCE = "uncus"
# The first is measured again at the end: how far its two times differ is the noise.
CONTESTANTS = {
    "uncus": Contestant(),
    "uncus, augmented": Contestant(augmented=True),
    "uncus deterministic": Contestant(deterministic=True),
    "uncus channels_last": Contestant(layout=torch.channels_last_3d),
    "uncus unfused": Contestant(fused=False),
    "uncus --memory low": Contestant(low_memory=True),
    "uncus graphs": Contestant(graphs=True),
    "uncus compiled": Contestant(compiled=True),
    "uncus compiled, graphs": Contestant(compiled=True, graphs=True),
    "monai": Contestant(monai, fused=False),
    "monai compiled": Contestant(monai, fused=False, compiled=True),
    "uncus again": Contestant(),
}


def cases(device: torch.device, quick: bool) -> list[dict[str, Any]]:
    """Every network, batch and volume; compiled only where the aims ask for it."""
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
        for name, one in CONTESTANTS.items()
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
    """Milliseconds of a network's step, the peak of memory, and for ours the operations in it."""
    if "matrix_product" in case:
        kind = getattr(torch, case["matrix_product"])
        return {"flop_a_second": matrix_rate(device, kind, case["size"])}
    gc.collect()
    torch._dynamo.reset()
    one = CONTESTANTS[case["network"]]
    gpu = device.type == "cuda"
    with layer.switched(on=one.fused), deterministic(one.deterministic):
        step, parameters = _step(one, case, device)
        for _ in range(3):
            step()
        clear(device)
        timing = time_all({"step": step}, device, few(rounds, device))["step"]
        peak = torch.cuda.max_memory_allocated(device) / 2**20 if gpu else None
        row = {"step_ms": timing.as_dict(), "peak_mib": peak, "parameters": parameters}
        if case["network"] == REFERENCE:
            with FlopCounterMode(display=False) as counted:
                step()
            row["flop"] = counted.get_total_flops()
    return row


def _step(
    one: Contestant, case: dict[str, Any], device: torch.device
) -> tuple[Callable[[], None], int]:
    """A training step of a contestant, the same for each; and the network's parameters."""
    model: Any = one.build(case["depth"], case["width"]).train().to(device)
    parameters = count_parameters(model)
    model.to(memory_format=one.layout)
    if one.low_memory:
        save_memory(model)
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

    def step() -> None:
        volume = x
        if one.augmented:
            draws = [augment.draw(Augment(), 0, 0, scan) for scan in range(len(x))]
            volume = augment.apply(x, draws, (1.0, 1.0, 1.0))
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
    """Algorithms that give the same bits again, as in training, for a while."""
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
    """Header and rows for a person; ratios against MONAI's eager network of the same case."""
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
    """What to know beside the table."""
    return [
        "A step is forward, backward and AdamW, under bf16 autocast on a GPU, in float32 on a CPU;",
        "the peak counts weights, gradients and optimizer too. `deterministic` has the algorithms",
        "that `uncus train` asks for, `graphs` replays the network's passes as CUDA graphs",
        "(`--graphs`), `augmented` has each batch augmented on the device.",
        "",
        "Roofline: what a step computes is nearly all convolutions. A large product of matrices",
        f"reaches {part['matrix_tflop_s']:.3g} TFLOP/s here; `of peak` is how near the whole step",
        "comes to that. What is in the way moves memory and computes little: norms, activations,",
        "additions, the optimizer; and Python, where a step is short.",
    ]
