"""What ``uncus bench`` shows: tables for a terminal; speed.md, with the aims and their figures."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

TITLES = {
    "tune": "How the kernels are cut",
    "norm": "GroupNorm + ReLU, forward and backward, bf16, 8 groups",
    "step": "A training step",
    "data": "Scans a second for training",
    "predict": "The stages of one prediction",
}
Parts = dict[str, Any]
"""Name of a part -> kind of device ("cpu", "gpu") -> what was measured on it."""


def aligned(rows: list[list[str]]) -> str:
    """Columns under each other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def markdown(parts: Parts) -> str:
    """speed.md: the aims, the tables, and what has not been measured yet."""
    lines = [
        "# Speed",
        "",
        "Written by `uncus bench --out docs/results`, from `speed.json` beside it; one call",
        "measures everything, and goes on where it was cut off. Each time is the median of the",
        "rounds with its quartiles; ratios compare medians of the same run.",
        "",
        *pipes(aims(parts)),
    ]
    if any("gpu" not in parts.get(name, {}) for name in ("norm", "step")):
        lines += [
            "",
            "**No GPU has run this yet.** What is known of the kernels without one: they are",
            "right in Triton's interpreter, compile for an H100 with Triton's compiler, and load",
            "and store 16 bytes a thread (tests/test_fused.py). How they are cut is reasoned, not",
            "tuned. `pytest tests/test_gpu.py` is to show on a GPU that they are right there too.",
        ]
    for name, title in TITLES.items():
        lines += ["", f"## {title}"]
        if not parts.get(name):
            lines += ["", f"Not measured yet: `uncus bench {name} --out docs/results`."]
        for part in parts.get(name, {}).values():
            lines += ["", *_section(name, part)]
    return "\n".join(lines) + "\n"


def _section(name: str, part: Any) -> list[str]:
    """One part as measured on one device."""
    module = importlib.import_module(f"pipeline.bench_{name}")
    versions = ", ".join(f"{key} {value}" for key, value in part["versions"].items())
    return [
        f"{part['device']}; {versions}; {part['date']}; `{part['command']}`.",
        "",
        *pipes(module.table(part)),
        "",
        *module.remarks(part),
        *(f"Not measured: {one['case']}: {one['why']}" for one in part["failed"]),
    ]


def pipes(rows: list[list[str]]) -> list[str]:
    """A table in Markdown; the first row is its header."""
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return [head, "|" + "---|" * len(rows[0]), *body]


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
