"""What the project set out to reach in speed, beside what ``uncus bench`` has measured."""

from collections.abc import Callable, Sequence
from typing import Any

Parts = dict[str, Any]
"""Name of a part -> kind of device ("cpu", "gpu") -> what was measured on it."""


def aims(parts: Parts) -> list[list[str]]:
    """What the project set out to reach, beside what was measured."""
    out = [["aim", "bound", "measured", "reached"]]
    for part, what, at_most, bound, unit, find in AIMS:
        limit = f"{'at most ' if at_most else ''}{bound:g}{unit}"
        kind = "cpu" if part in {"data", "predict"} else "gpu"
        measured = parts.get(part, {}).get(kind)
        whole = measured is not None and "--quick" not in measured["command"]
        found = find(measured) if whole else []
        if not found:
            out.append([what, limit, "-", "not measured"])
            continue
        worst = max(found) if at_most else min(found)
        met = worst <= bound if at_most else worst >= bound
        out.append([what, limit, f"{worst:.3g}{unit}", "yes" if met else "no"])
    return out


def _norm(peer: str) -> Callable[[Any], list[float]]:
    """Times faster than ``peer``, of each shape; only at batch 1 where that is torch eager."""

    def find(part: Any) -> list[float]:
        return [
            row["times_faster_than"][peer]
            for row in part["rows"]
            if peer in row["times_faster_than"] and (row["shape"][0] == 1 or peer == "compiled")
        ]

    return find


def _bandwidth(part: Any) -> list[float]:
    largest = max(_voxels(row["shape"]) for row in part["rows"])
    return [
        100 * row["of_copy_bandwidth"] for row in part["rows"] if _voxels(row["shape"]) == largest
    ]


def _voxels(shape: Sequence[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _steps(compare: Callable[[dict[str, Any]], float | None]) -> Callable[[Any], list[float]]:
    """``compare`` of the networks (by name) of each case at 128^3 and batch 1 or 2, on a GPU."""

    def find(part: Any) -> list[float]:
        cases: dict[tuple[int, int], dict[str, Any]] = {}
        for row in part["rows"]:
            if row["volume"] == [128, 128, 128] and row["batch"] <= 2:
                cases.setdefault((row["depth"], row["batch"]), {})[row["network"]] = row
        found = [compare(networks) for networks in cases.values()]
        return [value for value in found if value is not None]

    return find


def _time_ratio(ours: Sequence[str], peer: str) -> Callable[[dict[str, Any]], float | None]:
    """The peer's time over that of the fastest of ``ours``."""

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


# Part, what, whether the bound is an upper one, bound, unit, what was measured: the worst counts.
AIMS: tuple[tuple[str, str, bool, float, str, Callable[[Any], list[float]]], ...] = (
    (
        "norm",
        "GroupNorm + ReLU on a GPU, batch 1, against torch eager",
        False,
        4,
        " x",
        _norm("eager"),
    ),
    ("norm", "the same against torch.compile", False, 1.3, " x", _norm("compiled")),
    (
        "norm",
        "the same for the largest tensor, of the copy bandwidth",
        False,
        70,
        "%",
        _bandwidth,
    ),
    (
        "step",
        "training step on a GPU, 128^3, batch 1 and 2, ResNet-18 and 50, against MONAI's",
        False,
        1.5,
        " x",
        _steps(_time_ratio(("uncus",), "monai")),
    ),
    (
        "step",
        "the fastest of ours against MONAI's compiled",
        False,
        1,
        " x",
        _steps(_time_ratio(("uncus", "uncus graphs", "uncus compiled"), "monai compiled")),
    ),
    ("step", "its memory, of MONAI's", True, 0.75, "", _steps(_memory)),
    ("step", "augmentation on a GPU, of a ResNet-18 step", True, 5, "%", _steps(_augmentation)),
    ("data", "scans a second on a CPU, of MONAI's PersistentDataset", False, 1.5, " x", _data),
    (
        "predict",
        "the network of a prediction on a CPU, against torch",
        False,
        2,
        " x",
        _openvino,
    ),
    ("predict", "Grad-CAM, of the network's time", True, 20, "%", _grad_cam),
)
