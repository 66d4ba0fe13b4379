"""A training step of a ResNet: ours against MONAI's of the same shape, with GroupNorm in it."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from models import fused
from models.base import count_parameters
from models.build import ModelConfig, build_model
from models.resnet import DEPTHS
from models.swap import check_norms, swap_norm
from pipeline.timing import clear, measure

GROUPS = 8
VOLUMES = ((96, 96, 96), (128, 128, 128), (160, 192, 160))
CASES = (
    *((18, batch, volume) for volume in VOLUMES for batch in (1, 2, 4)),
    *((50, batch, VOLUMES[1]) for batch in (1, 2)),
)
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


def _contestants(
    depth: int, width: int, gpu: bool
) -> Iterator[tuple[str, Callable[[], nn.Module], torch.memory_format, bool]]:
    """Name, builder, layout, whether compiled. The first is measured again at the end."""
    dense, last = torch.contiguous_format, torch.channels_last_3d
    yield "uncus", lambda: ours(depth, width), dense, False
    yield "uncus channels_last", lambda: ours(depth, width), last, False
    yield "uncus unfused", lambda: ours(depth, width), dense, False
    yield "monai", lambda: monai(depth, width), dense, False
    if gpu:
        yield "uncus compiled", lambda: ours(depth, width), dense, True
        yield "monai compiled", lambda: monai(depth, width), dense, True
    yield "uncus again", lambda: ours(depth, width), dense, False


def run(device: torch.device, rounds: int, quick: bool) -> dict[str, Any]:
    """Measure every case; the part ``step`` of the report."""
    rows = []
    width = 8 if quick else 64
    for depth, batch, volume in QUICK if quick else CASES:
        sizes = {count_parameters(build(depth, width)) for build in (ours, monai)}
        assert len(sizes) == 1, f"the two networks differ: {sizes} parameters"
        for name, build, layout, compiled in _contestants(depth, width, device.type == "cuda"):
            with fused.switched(on=name != "uncus unfused"):
                row = _measured(build, layout, compiled, batch, volume, device, rounds)
            case = {"depth": depth, "batch": batch, "volume": list(volume)}
            rows.append({**case, "network": name, **row})
    return {"groups": GROUPS, "width": width, "dtype": "bfloat16 autocast", "rows": rows}


def _measured(
    build: Callable[[], nn.Module],
    layout: torch.memory_format,
    compiled: bool,
    batch: int,
    volume: tuple[int, ...],
    device: torch.device,
    rounds: int,
) -> dict[str, Any]:
    """Milliseconds of a step and the peak of memory; the same step for each network."""
    gc.collect()
    torch._dynamo.reset()
    gpu = device.type == "cuda"
    model: Any = build().train().to(device)
    model.to(memory_format=layout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=gpu)
    network: Any = torch.compile(model, dynamic=False) if compiled else model
    shape = (batch, 1, *volume)
    x = torch.randn(shape, device=device).contiguous(memory_format=layout)
    target = torch.arange(batch, device=device) % 2

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss: Any = F.cross_entropy(network(x), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(2):
        step()
    clear(device)
    timing = measure({"step": step}, device, rounds)["step"]
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if gpu else None
    return {"step_ms": timing.as_dict(), "peak_mib": peak}


def table(part: dict[str, Any]) -> list[list[str]]:
    """Header and rows for a person; ratios against MONAI's eager network of the same case."""
    out = [["ResNet", "batch", "volume", "network", "step ms", "x monai", "peak MiB", "of monai"]]
    cases = {
        (row["depth"], row["batch"], *row["volume"]): row
        for row in part["rows"]
        if row["network"] == "monai"
    }
    for row in part["rows"]:
        time, peer = row["step_ms"], cases[(row["depth"], row["batch"], *row["volume"])]
        peak = row["peak_mib"]
        out.append(
            [
                str(row["depth"]),
                str(row["batch"]),
                "x".join(map(str, row["volume"])),
                row["network"],
                f"{time['median']:.2f} [{time['low']:.2f}-{time['high']:.2f}]",
                f"{peer['step_ms']['median'] / time['median']:.2f}",
                "-" if peak is None else f"{peak:.0f}",
                "-" if peak is None else f"{peak / peer['peak_mib']:.2f}",
            ]
        )
    return out
