"""A training step of a ResNet: ours against MONAI's of the same shape with GroupNorm."""

import functools
import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from uncus.models.backbones.resnet import DEPTHS
from uncus.models.base import count_parameters
from uncus.models.build import ModelConfig, build_model
from uncus.models.fused import layer
from uncus.models.fused.operation import uses_kernels
from uncus.models.swap import check_norms, swap_norm
from uncus.pipeline.benchmark.fingerprint import fingerprint
from uncus.pipeline.timing import Clock, clear, fewer_on_cpu, matrix_rate

GROUPS = 8
VOLUMES = ((128, 128, 128), (96, 96, 96), (160, 192, 160))
AIMED = tuple((depth, batch, VOLUMES[0]) for batch in (1, 2) for depth in (18, 50))
OTHERS = ((18, 4, VOLUMES[0]), *((18, n, volume) for volume in VOLUMES[1:] for n in (1, 2, 4)))
ON_A_CPU = ((18, 1, VOLUMES[1]),)
QUICK = ((18, 1, (16, 16, 16)),)
STEPS = 10
"""Steps that follow each other in a round on a GPU; on a CPU, where one takes seconds, 1."""


def config(depth: int, width: int) -> ModelConfig:
    """Our ResNet in the shape of the paper, which MONAI's has too."""
    return ModelConfig(
        f"resnet{depth}",
        "group",
        GROUPS,
        width=width,
        dropout=0.0,
        stem_kernel=7,
        stem_pool=True,
        shortcut="B",
    )


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
    """A network and how its step is run.

    options: of ``uncus train``, beside its defaults.
    run: "train", in Lightning's Trainer as ``uncus train`` does; "bare", the same step without the
        Trainer; "monai", MONAI's network in a loop of forward, loss, backward and AdamW.
    """

    run: str = "train"
    options: dict[str, Any] = field(default_factory=dict)
    augmented: bool = False
    """Each step augments its batch first."""
    deterministic: bool = True
    """With deterministic algorithms, as ``uncus train``."""
    cudnn_benchmark: bool = False
    """cuDNN tries its algorithms for each shape."""
    fused: bool = True
    compiled: str = ""
    """The mode of torch.compile for MONAI's network."""
    channels_last: bool = False
    """The memory layout of MONAI's network."""


def options(**values: Any) -> Implementation:
    """A step of ``uncus train`` with options of its own."""
    return Implementation(options=values)


def peer(**how: Any) -> Implementation:
    """A step of MONAI's network under autocast, as in its tutorials."""
    return Implementation("monai", fused=False, deterministic=False, **how)


REFERENCE, PEER = "uncus", "monai"
COMPILED_PEERS = ("monai compiled", "monai compiled, graphs")
# By value: what the aims need, what is compiled for a minute last; then what may be faster and what
# a choice costs. The first is measured again at the end: the difference of its two times is noise.
TIERS: tuple[dict[str, Implementation], ...] = (
    {REFERENCE: Implementation(), PEER: peer()},
    {"uncus, augmented": Implementation(augmented=True), "uncus, bare": Implementation("bare")},
    {"monai compiled": peer(compiled="default")},
    {
        "uncus --compile": options(compile=True),
        "uncus --no-graphs": options(graphs=False),
        "uncus --no-channels-last": options(channels_last=False),
        "monai compiled, graphs": peer(compiled="reduce-overhead"),
        "monai, channels last": peer(channels_last=True),
        "uncus, not deterministic": Implementation(deterministic=False),
        "uncus, cuDNN benchmark": Implementation(deterministic=False, cudnn_benchmark=True),
        "monai, cuDNN benchmark": peer(cudnn_benchmark=True),
        "uncus, norms not fused": Implementation(fused=False),
        "uncus --memory low": options(memory="low"),
        "uncus --compile --no-graphs": options(compile=True, graphs=False),
        "uncus again": Implementation(),
    },
)
IMPLEMENTATIONS = {name: one for tier in TIERS for name, one in tier.items()}


def cases(device: torch.device, quick: bool) -> list[dict[str, Any]]:
    """The rate of matrix products; the aims' cases by the value of their rows; then the others."""
    gpu = device.type == "cuda"
    rate = {"matrix_product": "bfloat16" if gpu else "float32", "size": 8192 if gpu else 2048}
    shapes = QUICK if quick else AIMED if gpu else ON_A_CPU
    pairs = [(shape, name) for names in TIERS for shape in shapes for name in names]
    if gpu and not quick:
        pairs += [(shape, name) for shape in OTHERS for name in TIERS[0]]
    return [rate] + [
        {
            "depth": depth,
            "width": 8 if quick else 64,
            "batch": batch,
            "volume": list(volume),
            "network": name,
        }
        for (depth, batch, volume), name in pairs
        if gpu or not needs_gpu(IMPLEMENTATIONS[name])
    ]


def needs_gpu(one: Implementation) -> bool:
    """Whether an implementation makes sense on a GPU only."""
    options = {"graphs", "channels_last", "compile"} & one.options.keys()
    return bool(options or one.compiled or one.cudnn_benchmark or one.channels_last)


def depends(case: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """What a result depends on: for our networks, their code and the kernels' settings."""
    if "network" not in case or IMPLEMENTATIONS[case["network"]].run == "monai":
        return {}
    code = fingerprint("models", "pipeline/training")
    if not uses_kernels(torch.empty(0, device=device)):
        return {"code": code}
    from uncus.models.fused import kernels

    return {"code": code, "settings": [kernels.settings(device, last) for last in (False, True)]}


def gather(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """The part ``step`` of the report."""
    rate = next(row["flop_a_second"] for case, row in rows if "matrix_product" in case)
    measured = [{**case, **row} for case, row in rows if "network" in case]
    for row in measured:
        row["of_matrix_rate"] = row["flop"] / (row["step_ms"]["median"] * 1e-3) / rate
    order = list(IMPLEMENTATIONS)
    measured.sort(key=lambda row: (_position(row), order.index(row["network"])))
    return {"groups": GROUPS, "matrix_tflop_s": rate / 1e12, "rows": measured}


def _position(row: dict[str, Any]) -> int:
    """The place of a row's shape in the report."""
    shape = (row["depth"], row["batch"], tuple(row["volume"]))
    return [*AIMED, *OTHERS, *QUICK].index(shape)


def measure(case: dict[str, Any], device: torch.device, rounds: int) -> dict[str, Any]:
    """Time of a network's step (ms), peak memory (MiB), parameters and floating-point operations.

    ``peak_mib`` is the memory of tensors, ``reserved_mib`` all memory that torch has taken: that of
    CUDA graphs is not among the tensors.
    """
    if "matrix_product" in case:
        kind = getattr(torch, case["matrix_product"])
        return {"flop_a_second": matrix_rate(device, kind, case["size"])}
    gc.collect()
    torch._dynamo.reset()
    clear(device)
    one = IMPLEMENTATIONS[case["network"]]
    steps = STEPS if device.type == "cuda" else 1
    clock = Clock(device, fewer_on_cpu(rounds, device), steps, lambda: clear(device))
    with layer.switched(on=one.fused), algorithms_kept():
        model, graphs = RUNS[one.run](one, case, device, clock)
        timing = clock.timing()
    gpu = device.type == "cuda"
    return {
        "step_ms": timing.as_dict(),
        "peak_mib": torch.cuda.max_memory_allocated(device) / 2**20 if gpu else None,
        "reserved_mib": torch.cuda.max_memory_reserved(device) / 2**20 if gpu else None,
        "graphs": graphs,
        "parameters": count_parameters(model),
        "flop": operations(case["depth"], case["width"], case["batch"], tuple(case["volume"])),
    }


def run_train(
    one: Implementation, case: dict[str, Any], device: torch.device, clock: Clock
) -> tuple[nn.Module, bool]:
    """Run steps of ``uncus train`` until ``clock`` is done: the network, whether by CUDA graphs."""
    # Imported here, so that what only a training needs (a logger, say) costs no other row.
    from uncus.pipeline.benchmark import training

    def start() -> None:
        if not one.deterministic:
            choose_algorithms(one)

    learner, graphs = training.train(_task(one, case, device), clock, one.augmented, start)
    return learner.model, graphs


def run_bare(
    one: Implementation, case: dict[str, Any], device: torch.device, clock: Clock
) -> tuple[nn.Module, bool]:
    """The same steps without Lightning."""
    from uncus.pipeline.benchmark import training

    choose_algorithms(one)
    learner, graphs = training.run_bare(_task(one, case, device), clock, device)
    return learner.model, graphs


def _task(one: Implementation, case: dict[str, Any], device: torch.device) -> Any:
    from uncus.pipeline.benchmark import training

    network = config(case["depth"], case["width"])
    options = one.options
    return training.synthetic_task(network, case["volume"], case["batch"], device, **options)


def run_monai(
    one: Implementation, case: dict[str, Any], device: torch.device, clock: Clock
) -> tuple[nn.Module, bool]:
    """Steps of MONAI's network in a loop, as in its tutorials."""
    choose_algorithms(one)
    model: Any = monai(case["depth"], case["width"]).train().to(device)
    if one.channels_last:
        model.to(memory_format=torch.channels_last_3d)
    if one.compiled:
        model.compile(dynamic=False, mode=one.compiled)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    x = torch.randn(case["batch"], 1, *case["volume"], device=device)
    target = torch.arange(case["batch"], device=device) % 2
    while not clock.done:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            loss: Any = F.cross_entropy(model(x).float(), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.tick()
    return model, one.compiled == "reduce-overhead"


RUNS = {"train": run_train, "bare": run_bare, "monai": run_monai}


def choose_algorithms(one: Implementation) -> None:
    """Set how torch chooses algorithms, until `algorithms_kept` ends."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    settings: Any = torch.utils.deterministic
    torch.use_deterministic_algorithms(one.deterministic, warn_only=True)
    settings.fill_uninitialized_memory = False
    torch.backends.cudnn.deterministic = False  # implied by the first
    torch.backends.cudnn.benchmark = one.cudnn_benchmark


@contextmanager
def algorithms_kept() -> Iterator[None]:
    """Restore at the end how torch chooses algorithms, which Lightning's Trainer sets too."""
    settings: Any = torch.utils.deterministic
    cudnn: Any = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    cudnn_before = cudnn.benchmark, cudnn.deterministic
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic")
            yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        settings.fill_uninitialized_memory = before[1]
        cudnn.benchmark, cudnn.deterministic = cudnn_before


@functools.cache
def operations(depth: int, width: int, batch: int, volume: tuple[int, ...]) -> int:
    """Floating-point operations of a step's forward and backward pass; nothing is computed."""
    model = build_model(config(depth, width), seed=0).to("meta").train()
    x = torch.empty(batch, 1, *volume, device="meta")
    with FlopCounterMode(display=False) as counted:
        output: Any = model(x)
        output.sum().backward()
    return int(counted.get_total_flops())


def memory_ratio(row: dict[str, Any], peer: dict[str, Any]) -> float | None:
    """A network's memory relative to ``peer``'s; None on a CPU.

    All that torch has taken where graphs are replayed, since their memory is not among the tensors;
    otherwise that of tensors.
    """
    if row["peak_mib"] is None or peer["peak_mib"] is None:
        return None
    name = "reserved_mib" if row["graphs"] or peer["graphs"] else "peak_mib"
    return float(row[name] / peer[name])


def table(part: dict[str, Any]) -> list[list[str]]:
    """Header and rows; ratios against MONAI's eager network in the same case."""
    out = [
        [
            "ResNet",
            "batch",
            "volume",
            "network",
            "graphs",
            "step ms",
            "x monai",
            "peak MiB",
            "of monai",
            "of peak",
        ]
    ]
    peers = {_shape(row): row for row in part["rows"] if row["network"] == PEER}
    for row in part["rows"]:
        time, peer = row["step_ms"], peers.get(_shape(row))
        ratio = memory_ratio(row, peer) if peer else None
        memory = row["reserved_mib" if row["graphs"] else "peak_mib"]
        out.append(
            [
                str(row["depth"]),
                str(row["batch"]),
                "x".join(map(str, row["volume"])),
                row["network"],
                "yes" if row["graphs"] else "no",
                f"{time['median']:.2f} [{time['low']:.2f}-{time['high']:.2f}]",
                f"{peer['step_ms']['median'] / time['median']:.2f}" if peer else "-",
                "-" if memory is None else f"{memory:.0f}",
                "-" if ratio is None else f"{ratio:.2f}",
                f"{row['of_matrix_rate']:.0%}",
            ]
        )
    return out


def _shape(row: dict[str, Any]) -> tuple[int, ...]:
    return (row["depth"], row["batch"], *row["volume"])


def remarks(part: dict[str, Any]) -> list[str]:
    """Notes on the table."""
    return [
        "`uncus` is a step of `uncus train` with its defaults: its own code and Lightning's, on",
        "a batch that is on the device; `augmented` augments it first, as a training does; `bare`",
        "is the same step without Lightning's Trainer. Names with options are `uncus train`'s.",
        "`monai`'s step is forward pass, loss, backward pass and AdamW in a loop, under autocast",
        "on a GPU, with none of `uncus train`'s clipping and deterministic algorithms. Steps",
        "follow each other without a pause. `graphs`: replayed as CUDA graphs.",
        *_faster(part["rows"]),
        "",
        "The peak includes weights, gradients and optimizer. Where CUDA graphs are replayed it is",
        "all memory that torch has taken, compared with the same of MONAI's.",
        "",
        "Roofline: nearly all operations of a step are convolutions. A large matrix product",
        f"reaches {part['matrix_tflop_s']:.3g} TFLOP/s here; `of peak` is the share of that rate",
        "which the whole step reaches. The rest is memory traffic with little arithmetic (norms,",
        "activations, additions, the optimizer) and, for short steps, Python.",
    ]


def _faster(rows: list[dict[str, Any]]) -> list[str]:
    """Where options of ``uncus train`` are clearly faster than its defaults."""
    usual = {_shape(row): row["step_ms"] for row in rows if row["network"] == REFERENCE}
    found: dict[str, list[str]] = {}
    for row in rows:
        default, one = usual.get(_shape(row)), IMPLEMENTATIONS[row["network"]]
        if default and one.options and row["step_ms"]["high"] < default["low"]:
            ratio = default["median"] / row["step_ms"]["median"]
            where = f"{ratio:.2f} times for ResNet-{row['depth']} at batch {row['batch']}"
            found.setdefault(row["network"], []).append(where)
    return [f"Faster than the defaults: `{name}`, {', '.join(c)}." for name, c in found.items()]
