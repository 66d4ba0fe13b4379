"""The stages of one prediction, with torch and with OpenVINO computing the network."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from uncus.data.geometry.grid import Grid
from uncus.data.geometry.image import Image, points
from uncus.data.imageio.volume import read_volume
from uncus.data.mni.template import load_template, mni_grid
from uncus.data.transforms.path import place
from uncus.models.build import ModelConfig, build_model, medicalnet
from uncus.models.inference import Trunk, torch_trunk
from uncus.pipeline.benchmark.data import synthetic_volume
from uncus.pipeline.benchmark.tables import pipes
from uncus.pipeline.prediction import openvino_engine
from uncus.pipeline.prediction.openvino_engine import MIN_SPEEDUP
from uncus.pipeline.prediction.output import write
from uncus.pipeline.prediction.results import Explanation, Prediction
from uncus.pipeline.saliency import SALIENCY
from uncus.pipeline.timing import Timing, Work, matrix_rate
from uncus.pipeline.timing import measure as time_all
from uncus.pipeline.trust.judgement import Judgement

SHAPE, SPACING, FINE = (96, 112, 96), 2.0, 1.0
QUICK_SHAPE, QUICK_SPACING, QUICK_FINE = (16, 16, 16), 12.0, 6.0
NETWORK = ModelConfig("resnet18", "group", width=16)
QUICK_NETWORK = ModelConfig("tiny", "group", width=16)
OTHERS = (
    ModelConfig("tiny"),
    ModelConfig("resnet10"),
    ModelConfig("resnet18", width=32),
    medicalnet(18),
    ModelConfig("resnet50"),
    ModelConfig("sfcn"),
    ModelConfig("densenet121"),
)
QUICK_OTHERS = (ModelConfig("resnet10", width=8),)
MAX_ROUNDS = 10  # enough for stages that take seconds
RAW_MM, QUICK_RAW_MM = 1.0, 2.0
POSE = ((1.05, 0.10, -0.05, 6.0), (-0.10, 0.95, 0.12, -9.0), (0.06, -0.12, 1.0, 4.0))
"""Where the raw brain lies: template mm -> scan mm."""


def cases(device: torch.device, quick: bool) -> list[dict[str, Any]]:
    """The stages, then other networks with either engine."""
    networks = QUICK_OTHERS if quick else OTHERS
    compared = device.type == "cpu" and openvino_engine.available()
    return [
        {"quick": quick},
        *({"quick": quick, "network": one.as_dict()} for one in networks if compared),
    ]


def gather(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """The part ``predict`` of the report."""
    stages = next(row for case, row in rows if "network" not in case)
    return {**stages, "others": [{**case, **row} for case, row in rows if "network" in case]}


def measure(case: dict[str, Any], device: torch.device, rounds: int) -> dict[str, Any]:
    """One case: every stage, or a network with torch and with OpenVINO."""
    if "network" in case:
        return _engines(case, rounds)
    quick = case["quick"]
    shape, spacing, fine = (
        (QUICK_SHAPE, QUICK_SPACING, QUICK_FINE) if quick else (SHAPE, SPACING, FINE)
    )
    config = QUICK_NETWORK if quick else NETWORK
    network = build_model(config, seed=0).eval().to(device)
    grid = Grid(shape, np.diag([spacing, spacing, spacing, 1.0]))
    with tempfile.TemporaryDirectory(prefix="uncus-bench-") as folder:
        scan = Path(folder) / "scan_T1w.nii.gz"
        size = tuple(round(n * spacing / fine) for n in shape)
        image = 100 + 10 * synthetic_volume(size, 0).astype(np.float32)
        nib.save(nib.Nifti1Image(np.where(image == 100, 0, image), np.diag([fine] * 3 + [1])), scan)
        works, loading, differences = _stages(network, config, scan, grid, device)
        with FlopCounterMode(display=False) as counted, torch.inference_mode():
            network.features(torch.zeros(2, 1, *shape, device=device))
        times = time_all(works, device, min(rounds, MAX_ROUNDS))
        raw = write_raw(Path(folder) / "raw_T1w.nii.gz", QUICK_RAW_MM if quick else RAW_MM)
        whole: dict[str, Work] = {
            "cold start": start_command,
            "raw head": partial(answer, network, raw, device),
        }
        times |= {name: time_few(work, 2 if quick else 4) for name, work in whole.items()}
    fast = "network, openvino" if "network, openvino" in times else "network, torch"
    return {
        "backbone": config.backbone,
        "width": config.width,
        "shape": list(shape),
        "scan": list(size),
        "stages_ms": {name: timing.as_dict() for name, timing in times.items()},
        "network_gflop": counted.get_total_flops() / 1e9,
        "matrix_gflop_s": matrix_rate(device) / 1e9,
        "loading_s": loading,
        "difference": differences.get("openvino"),
        "bf16_difference": differences.get("openvino-bf16"),
        "bf16_times_slower": times["network, openvino-bf16"].median / times[fast].median
        if "openvino-bf16" in differences
        else None,
        "openvino_times_faster": times["network, torch"].median / times[fast].median
        if fast != "network, torch"
        else None,
        "grad_cam_share_of_network": times["Grad-CAM"].median / times[fast].median,
    }


def _engines(case: dict[str, Any], rounds: int) -> dict[str, Any]:
    """A network's time (ms) for a scan and its mirror image with either engine."""
    config = ModelConfig.from_dict(case["network"])
    network = build_model(config, seed=0).eval()
    volumes = openvino_engine.synthetic_volumes((2, 1, *(QUICK_SHAPE if case["quick"] else SHAPE)))
    (trunk,) = openvino_engine.openvino_trunks((network,), config, tuple(volumes.shape))
    works: dict[str, Work] = {
        "torch": partial(torch_trunk(network), volumes),
        "openvino": partial(trunk, volumes),
    }
    times = time_all(works, volumes.device, min(rounds, MAX_ROUNDS))
    return {f"{name}_ms": timing.as_dict() for name, timing in times.items()}


def _stages(
    network: Any, config: ModelConfig, scan: Path, grid: Grid, device: torch.device
) -> tuple[dict[str, Work], dict[str, float], dict[str, float]]:
    """Stages by name, OpenVINO's loading times (s), and each engine's difference from torch."""
    placed = place(read_volume(scan), grid, "keep")
    to_scan = placed.to_scan
    assert to_scan is not None
    volume = torch.from_numpy(placed.array.astype(np.float32))[None, None].to(device)
    both = torch.cat([volume, volume.flip(2)])
    trunks = {"torch": torch_trunk(network)}
    loading: dict[str, float] = {}
    differences: dict[str, float] = {}
    if device.type == "cpu" and openvino_engine.available():
        with empty_cache(scan.parent):
            for what in ("anew", "again"):  # the second time it comes from the cache
                start = time.perf_counter()
                (trunk,) = openvino_engine.openvino_trunks((network,), config, tuple(both.shape))
                loading[what] = time.perf_counter() - start
            trunks["openvino"] = trunk
            (trunks["openvino-bf16"],) = openvino_engine.openvino_trunks(
                (network,), config, tuple(both.shape), engine="openvino-bf16"
            )
            for name in ("openvino", "openvino-bf16"):
                differences[name] = openvino_engine.difference(network, trunks[name], both.shape)
    feature_map = trunks["torch"](both)[:1].clone()
    saliency = SALIENCY["grad_cam"](network, volume, 1, feature_map=feature_map).cpu().numpy()
    shares, judgement = {"a": 0.5, "b": 0.5}, Judgement(np.zeros((1, 2)), np.zeros((1, 2)), 0.1)
    prediction = Prediction(scan.name, shares, {}, shares, (), {}, (), {}, judgement, placed)
    explanation = Explanation(prediction, "grad_cam", "b", saliency, grid)

    def forward(trunk: Trunk) -> Work:
        def once() -> None:
            with torch.inference_mode():
                network.classify(trunk(both))

        return once

    def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Work:
        def once() -> None:
            function(*arguments, **options)

        return once

    works = {
        "read": call(read_volume, scan),
        "place on the grid": call(place, read_volume(scan), grid, "keep"),
        **{f"network, {name}": forward(trunk) for name, trunk in trunks.items()},
        "Grad-CAM": call(SALIENCY["grad_cam"], network, volume, 1, feature_map=feature_map),
        "map to scan grid": call(to_scan, saliency),
        "write map and figure": call(write, scan.parent / "out", explanation),
    }
    return works, loading, differences


def time_few(work: Work, rounds: int) -> Timing:
    """Time ``work`` without warming up, since it takes seconds and ends on the CPU."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return Timing.of(times)


def start_command() -> None:
    """Start ``uncus predict`` in a process of its own, until it has read its options."""
    command = [sys.executable, "-m", "uncus", "predict", "--help"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def write_raw(path: Path, spacing: float) -> Path:
    """Write the template's brain with voxels of ``spacing`` mm, stretched and turned."""
    template, pose = load_template(), np.eye(4)
    pose[:3] = POSE
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -110, -140, -100
    x, y, z = (round(mm / spacing) for mm in (220, 260, 210))
    inverse = np.linalg.inv(pose)
    at = inverse[:3, :3] @ points((x, y, z), affine) + inverse[:3, 3:]
    values = Image(template.t1 * template.brain, template.affine).at(at).reshape(x, y, z)
    nib.save(nib.Nifti1Image((800 * values).astype(np.int16), affine), path)
    return path


def answer(network: Any, scan: Path, device: torch.device) -> None:
    """Read a scan, register it to MNI152, and apply the network to it and to its mirror image."""
    placed = place(read_volume(scan), mni_grid(np.full(3, SPACING)), "mni")
    volume = torch.from_numpy(placed.array)[None, None].to(device)
    with torch.inference_mode():
        network(torch.cat([volume, volume.flip(2)])).cpu()


@contextmanager
def empty_cache(folder: Path) -> Iterator[None]:
    """Make ``folder``, where nothing is cached yet, OpenVINO's cache within the context."""
    name = "XDG_CACHE_HOME"
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def table(part: dict[str, Any]) -> list[list[str]]:
    """Header and rows; times in ms, [quartiles]."""
    return [
        ["stage", "ms"],
        *(
            [name, f"{ms['median']:.0f} [{ms['low']:.0f}-{ms['high']:.0f}]"]
            for name, ms in part["stages_ms"].items()
        ),
    ]


def remarks(part: dict[str, Any]) -> list[str]:
    """Notes on the table."""
    size = "x".join(map(str, part["scan"]))
    grid = "x".join(map(str, part["shape"]))
    lines = [
        f"One scan of {size} voxels, one {part['backbone']} of width {part['width']} at {grid},",
        "which is applied to the scan and to its mirror image. The cold start is that of `uncus",
        "predict` in a process of its own, until it has read its options. The raw head is the",
        "template's brain, stretched and turned: read, corrected for its bias field, registered to",
        "MNI152 and predicted (registration.md has real heads); no file is written.",
    ]
    work, rate = part["network_gflop"], part["matrix_gflop_s"]
    floor = 1e3 * work / rate
    share = floor / part["stages_ms"]["network, torch"]["median"]
    lines += [
        f"The network's convolutions are {work:.1f} GFLOP for the two volumes; a large product of",
        f"float32 matrices reaches {rate:.0f} GFLOP/s here, at which they would take {floor:.0f}",
        f"ms. With torch the whole network reaches {share:.0%} of that rate; to be twice as fast",
        f"it would have to reach {2 * share:.0%}, norms included.",
    ]
    if part["openvino_times_faster"] is None:
        return [*lines, "OpenVINO (the extra `fast`) was not installed."]
    loading = part["loading_s"]
    return [
        *lines,
        "",
        f"OpenVINO is {part['openvino_times_faster']:.2f} times as fast as torch (it reaches",
        f"{part['openvino_times_faster'] * share:.0%} of that rate), and its feature map differs",
        f"by {part['difference']:.0e} of the map's largest value. Loading takes",
        f"{loading['anew']:.1f} s for a new configuration and {loading['again']:.1f} s from the",
        "cache, most of it the comparison with torch. Grad-CAM reuses the feature map of the",
        f"prediction and adds {part['grad_cam_share_of_network']:.1%} to the network's time.",
        f"`openvino-bf16` takes {part['bf16_times_slower']:.2f} times as long as float32 here (it",
        "is meant for CPUs with AMX), and its feature map differs by",
        f"{part['bf16_difference']:.0e}.",
        *_others(part["others"]),
    ]


def _others(rows: list[dict[str, Any]]) -> list[str]:
    """OpenVINO against torch for other networks."""
    if not rows:
        return []
    table = [["network", "width", "torch ms", "OpenVINO ms", "x torch"]]
    for row in rows:
        torch_ms, openvino_ms = (row[f"{name}_ms"]["median"] for name in ("torch", "openvino"))
        name = row["network"]["backbone"] + ", MedicalNet" * (row["network"]["stem_kernel"] == 7)
        times = [f"{torch_ms:.0f}", f"{openvino_ms:.0f}", f"{torch_ms / openvino_ms:.2f}"]
        table.append([name, str(row["network"]["width"]), *times])
    return [
        "",
        "Other networks at the same size; where OpenVINO is not at least",
        f"{MIN_SPEEDUP:g} times as fast on a machine, `--engine auto` stays with torch.",
        "",
        *pipes(table),
    ]
