"""speed.md: what ``uncus bench`` has measured, and the aims with their figures."""

import importlib
from typing import Any

from uncus.pipeline.benchmark.aims import Parts, aims
from uncus.pipeline.benchmark.tables import pipes

TITLES = {
    "tune": "How the kernels are cut",
    "norm": "GroupNorm + ReLU, forward and backward, bf16, 8 groups",
    "step": "A training step",
    "data": "Scans a second for training",
    "predict": "The stages of one prediction",
}


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
            "and store 16 bytes a thread (tests/models/fused/test_layer.py). How they are cut is",
            "reasoned, not tuned. `pytest tests/test_gpu.py` is to show on a GPU",
            "that they are right there too.",
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
    module = importlib.import_module(f"uncus.pipeline.benchmark.{name}")
    versions = ", ".join(f"{key} {value}" for key, value in part["versions"].items())
    return [
        f"{part['device']}; {versions}; {part['date']}; `{part['command']}`.",
        "",
        *pipes(module.table(part)),
        "",
        *module.remarks(part),
        *(f"Not measured: {one['case']}: {one['why']}" for one in part["failed"]),
    ]
