"""The project's aims for speed, compared with what ``uncus bench`` has measured."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
        out.append([aim.what, limit, f"{worst:.3g}{aim.unit}", "yes" if met else "no"])
    return out


class Aim(NamedTuple):
    """A bound on a figure.

    part, on: the part of speed.json, and the kind of device it must be measured on.
    find: the measured values; the worst counts.
    """

    part: str
    on: str
    what: str
    bound: float
    unit: str
    find: Callable[[Any], list[float]]
    at_most: bool = False


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
    largest = max(math.prod(row["shape"]) for row in part["rows"])
    rows = [row for row in part["rows"] if math.prod(row["shape"]) == largest]
    return [100 * row["of_copy_bandwidth"] for row in rows]


def _steps(compare: Callable[[dict[str, Any]], float | None]) -> Callable[[Any], list[float]]:
    """``compare`` applied to the networks (by name) of each case at 128^3 and batch 1 or 2."""

    def find(part: Any) -> list[float]:
        cases: dict[tuple[int, int], dict[str, Any]] = {}
        for row in part["rows"]:
            if row["volume"] == [128, 128, 128] and row["batch"] <= 2:
                cases.setdefault((row["depth"], row["batch"]), {})[row["network"]] = row
        values = [compare(networks) for networks in cases.values()]
        return [value for value in values if value is not None]

    return find


def _time_ratio(ours: Sequence[str], peer: str) -> Callable[[dict[str, Any]], float | None]:
    """The peer's time divided by that of the fastest of ``ours``."""

    def compare(networks: dict[str, Any]) -> float | None:
        times = [networks[name]["step_ms"]["median"] for name in ours if name in networks]
        if not times or peer not in networks:
            return None
        return float(networks[peer]["step_ms"]["median"] / min(times))

    return compare


def _memory(networks: dict[str, Any]) -> float | None:
    if not {"uncus", "monai"} <= networks.keys():
        return None
    return float(networks["uncus"]["peak_mib"] / networks["monai"]["peak_mib"])


def _augmentation(networks: dict[str, Any]) -> float | None:
    if not {"uncus", "uncus, augmented"} <= networks.keys() or networks["uncus"]["depth"] != 18:
        return None
    alone, both = (networks[n]["step_ms"]["median"] for n in ("uncus", "uncus, augmented"))
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
STEP = "training step on a GPU, 128^3, batch 1 and 2, ResNet-18 and 50, against MONAI's"
COMPILED = "our fastest against MONAI's compiled"
AUGMENTATION = "augmentation on a GPU, share of a ResNet-18 step"
DATA = "scans per second on a CPU, relative to MONAI's PersistentDataset"
NETWORK = "the network of a prediction on a CPU, against torch"
OURS = ("uncus", "uncus graphs", "uncus compiled")

AIMS = (
    Aim("norm", "gpu", EAGER, 4, " x", _norm("eager")),
    Aim("norm", "gpu", "the same against torch.compile", 1.3, " x", _norm("compiled")),
    Aim("norm", "gpu", LARGEST, 70, "%", _bandwidth),
    Aim("step", "gpu", STEP, 1.5, " x", _steps(_time_ratio(OURS[:1], "monai"))),
    Aim("step", "gpu", COMPILED, 1, " x", _steps(_time_ratio(OURS, "monai compiled"))),
    Aim("step", "gpu", "its memory, relative to MONAI's", 0.75, "", _steps(_memory), at_most=True),
    Aim("step", "gpu", AUGMENTATION, 5, "%", _steps(_augmentation), at_most=True),
    Aim("data", "cpu", DATA, 1.5, " x", _data),
    Aim("predict", "cpu", NETWORK, 2, " x", _openvino),
    Aim(
        "predict", "cpu", "Grad-CAM, share of the network's time", 20, "%", _grad_cam, at_most=True
    ),
)
