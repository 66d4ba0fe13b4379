"""speed.md: the results of ``uncus bench``, and the aims with what was reached."""

import importlib
from collections.abc import Iterable
from typing import Any

from uncus.pipeline.benchmark.aims import Parts, aims
from uncus.pipeline.benchmark.tables import pipes

TITLES = {
    "tune": "Kernel settings",
    "norm": "GroupNorm + ReLU, forward and backward, bf16, 8 groups",
    "step": "A training step",
    "data": "Training scans per second",
    "predict": "The stages of one prediction",
}


def markdown(parts: Parts) -> str:
    """The text of speed.md: aims, tables, and what has not been measured yet."""
    lines = [
        "# Speed",
        "",
        "Written by `uncus bench --out docs/results` from `speed.json` in the same folder; one",
        "call measures everything and resumes where it was interrupted. Times are medians over the",
        "rounds with quartiles; ratios compare medians of the same part.",
        "",
        *pipes(aims(parts)),
    ]
    if any("gpu" not in parts.get(name, {}) for name in ("norm", "step")):
        lines += [
            "",
            "**Not yet measured on a GPU.** What is tested without one: the kernels are correct in",
            "Triton's interpreter, compile for an H100 with Triton's compiler, and load and store",
            "16 bytes per thread (tests/models/fused). Their settings are estimated, not tuned.",
            "`pytest tests/test_gpu.py` tests them on a GPU.",
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
        *notes(part),
    ]


def notes(part: Any) -> list[str]:
    """What has not been measured, or not as it is now; each a paragraph."""
    lines = [f"Of these versions: {fault}." for fault in part["faults"]]
    if part["measured"] < part["cases"]:
        lines.append(f"{part['measured']} of {part['cases']} cases are measured so far.")
    if part["stale"]:
        lines.append(
            f"Measured with other code or kernel settings than now: {named(part['stale'])}."
        )
    lines += [f"Not measured: {named([one['case']])}: {one['why']}." for one in part["failed"]]
    return [text for line in lines for text in ("", line)]


def named(cases: Iterable[dict[str, Any]]) -> str:
    """Cases in words."""
    return "; ".join(", ".join(f"{n} {v}" for n, v in case.items()) for case in cases)
