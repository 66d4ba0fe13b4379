"""The project's aims for speed, compared with what ``uncus bench`` has measured."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from uncus.pipeline.benchmark import norm, step

Parts = dict[str, Any]
"""Name of a part -> kind of device ("cpu", "gpu") -> its results."""


def aims(parts: Parts) -> list[list[str]]:
    """Header and rows: aim, bound, measured value, and whether it was reached."""
    out = [["aim", "bound", "measured", "reached"]]
    for aim in AIMS:
        limit = f"{'at most ' if aim.at_most else ''}{aim.bound:g}{aim.unit}"
        part = parts.get(aim.part, {}).get(aim.on)
        values = aim.find(part) if part and "--quick" not in part["command"] else []
        if not values:
            out.append([aim.what, limit, "-", "not measured"])
            continue
        worst = max(values) if aim.at_most else min(values)
        met = worst <= aim.bound if aim.at_most else worst >= aim.bound
        some = f" ({len(values)} of {aim.of} cases)" if len(values) < aim.of else ""
        out.append([aim.what, limit, f"{worst:.3g}{aim.unit}", ("yes" if met else "no") + some])
    return out


class Aim(NamedTuple):
    """A bound on a figure.

    part, on: the part of speed.json, and the kind of device it must be measured on.
    find: the measured values; the worst counts.
    of: how many there are once all cases are measured.
    """

    part: str
    on: str
    what: str
    bound: float
    unit: str
    find: Callable[[Any], list[float]]
    at_most: bool = False
    of: int = 1


def _norm(peer: str) -> Callable[[Any], list[float]]:
    """Speed relative to ``peer`` for each shape; for torch eager at batch 1 only."""

    def find(part: Any) -> list[float]:
        return [
            row["times_faster_than"][peer]
            for row in part["rows"]
            if peer in row["times_faster_than"] and (row["shape"][0] == 1 or peer == "compiled")
        ]

    return find


def _bandwidth(part: Any) -> list[float]:
    return [
        100 * row["of_copy_bandwidth"]
        for row in part["rows"]
        if math.prod(row["shape"]) == max(map(math.prod, norm.SHAPES))
    ]


def _steps(
    compare: Callable[[dict[str, Any]], float | None], shapes: Sequence[Any] = step.AIMED
) -> Callable[[Any], list[float]]:
    """``compare`` applied to the networks (by name) of each case at 128^3 and batch 1 or 2."""

    def find(part: Any) -> list[float]:
        cases: dict[tuple[Any, ...], dict[str, Any]] = {shape: {} for shape in shapes}
        for row in part["rows"]:
            shape = (row["depth"], row["batch"], tuple(row["volume"]))
            if shape in cases:
                cases[shape][row["network"]] = row
        values = [compare(networks) for networks in cases.values()]
        return [value for value in values if value is not None]

    return find


def _time_ratio(*peers: str) -> Callable[[dict[str, Any]], float | None]:
    """The time of the fastest of ``peers`` divided by that of ``uncus train`` by default.

    Options that make it faster do not count: nobody knows them who has not measured.
    """

    def compare(networks: dict[str, Any]) -> float | None:
        times = [networks[name]["step_ms"]["median"] for name in peers if name in networks]
        if not times or step.REFERENCE not in networks:
            return None
        return float(min(times) / networks[step.REFERENCE]["step_ms"]["median"])

    return compare


def _memory(networks: dict[str, Any]) -> float | None:
    if not {step.REFERENCE, step.PEER} <= networks.keys():
        return None
    return step.memory_ratio(networks[step.REFERENCE], networks[step.PEER])


def _augmentation(networks: dict[str, Any]) -> float | None:
    names = (step.REFERENCE, "uncus, augmented")
    if not {*names} <= networks.keys():
        return None
    alone, both = (networks[name]["step_ms"]["median"] for name in names)
    return 100 * float(both / alone - 1)


def _data(part: Any) -> list[float]:
    rates = {row["source"]: row["scans_a_second"] for row in part["rows"]}
    return [rates["uncus"] / rates["monai PersistentDataset"]]


def _openvino(part: Any) -> list[float]:
    return [ratio for ratio in [part["openvino_times_faster"]] if ratio is not None]


def _grad_cam(part: Any) -> list[float]:
    return [100 * part["grad_cam_share_of_network"]]


EAGER = "GroupNorm + ReLU on a GPU, batch 1, against torch eager"
LARGEST = "the same for the largest tensor, share of the copy bandwidth"
STEP = "step of uncus train on a GPU, 128^3, batch 1 and 2, ResNet-18 and 50, against MONAI's"
COMPILED = "the same against MONAI's compiled"
AUGMENTATION = "augmentation on a GPU, share of a ResNet-18 step"
DATA = "scans per second on a CPU, relative to MONAI's PersistentDataset"
NETWORK = "the network of a prediction on a CPU, against torch"
MEMORY = "its memory, relative to MONAI's"
NORMS = len(norm.SHAPES) * len(norm.LAYOUTS)
AT_BATCH_1 = sum(shape[0] == 1 for shape in norm.SHAPES) * len(norm.LAYOUTS)
RESNET_18 = [shape for shape in step.AIMED if shape[0] == 18]

AIMS = (
    Aim("norm", "gpu", EAGER, 4, " x", _norm("eager"), of=AT_BATCH_1),
    Aim("norm", "gpu", "the same against torch.compile", 1.3, " x", _norm("compiled"), of=NORMS),
    Aim("norm", "gpu", LARGEST, 70, "%", _bandwidth, of=len(norm.LAYOUTS)),
    Aim("step", "gpu", STEP, 1.5, " x", _steps(_time_ratio(step.PEER)), of=4),
    Aim("step", "gpu", COMPILED, 1, " x", _steps(_time_ratio(*step.COMPILED_PEERS)), of=4),
    Aim("step", "gpu", MEMORY, 0.75, "", _steps(_memory), at_most=True, of=4),
    Aim("step", "gpu", AUGMENTATION, 5, "%", _steps(_augmentation, RESNET_18), True, of=2),
    Aim("data", "cpu", DATA, 1.5, " x", _data),
    Aim("predict", "cpu", NETWORK, 2, " x", _openvino),
    Aim(
        "predict", "cpu", "Grad-CAM, share of the network's time", 20, "%", _grad_cam, at_most=True
    ),
)
