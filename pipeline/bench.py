"""``uncus bench``: how fast the pieces are here, beside what one would use instead."""

import importlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from data.files import read_json, write_json, write_text
from pipeline import environment

NORM = "GroupNorm + ReLU, forward and backward, bf16, 8 groups"
STEP = "A training step, bf16"
PARTS = {
    "norm": NORM,
    "step": STEP,
    "data": "Scans a second for training",
    "predict": "The stages of one prediction",
}
AIMS = {
    "norm": "GroupNorm + ReLU on an H100 or H200: the aim is 4 times torch eager at batch 1, 1.3 "
    "times torch.compile and 70% of the copy bandwidth for the largest tensor.",
    "step": "The training step there: the aim is 1.5 times MONAI's network in torch eager, no "
    "slower than its torch.compile, with at most 0.75 of its peak memory.",
}


@dataclass(frozen=True)
class Bench:
    """Measure, print a table and, with --out, keep it as speed.json and speed.md."""

    what: tyro.conf.Positional[Literal["norm", "step", "data", "predict"]]
    """norm: GroupNorm + ReLU, forward and backward, against torch eager and compiled. step: a
    training step of ResNet-18 and ResNet-50 against MONAI's with GroupNorm. data: reading and
    augmenting against MONAI's datasets. predict: the stages of one prediction."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU where there is one."""
    rounds: int = 30
    """Rounds of each measurement; the median is shown, with the quartiles."""
    quick: bool = False
    """Small sizes, to see that it runs."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON instead of a table."""
    out: Path | None = None
    """Folder for speed.json and speed.md; parts measured earlier are kept there."""

    def run(self) -> int:
        """Measure and show; returns 0."""
        if self.rounds < 2:
            raise ValueError(f"--rounds {self.rounds}: quartiles need at least 2")
        import torch

        from models.fused_operation import uses_kernels

        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"--device {name}: {str(error).splitlines()[0]}; use auto") from None
        module = _module(self.what)
        part = {
            "device": _device_name(device),
            "implementation": "kernels" if uses_kernels(torch.empty(0, device=device)) else "plain",
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "command": self._command(),
            "versions": _versions(),
            **module.run(device, self.rounds, self.quick),
        }
        if self.as_json:
            print(json.dumps(part, indent=2))
        else:
            print(aligned(module.table(part)))
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            path = self.out / "speed.json"
            parts = read_json(path) if path.exists() else {}
            parts[self.what] = part
            write_json(path, parts)
            write_text(self.out / "speed.md", markdown(parts))
        return 0

    def _command(self) -> str:
        options = [f"--device {self.device}"] * (self.device != "auto")
        options += [f"--rounds {self.rounds}"] + ["--quick"] * self.quick
        return f"uncus bench {self.what} {' '.join(options)}"


def _module(name: str) -> Any:
    """What measures one part: ``run(device, rounds, quick)`` and ``table(part)``."""
    return importlib.import_module(f"pipeline.bench_{name}")


def _device_name(device: Any) -> str:
    import platform

    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _versions() -> dict[str, str]:
    import torch

    found = {name: environment.versions()[name] for name in ("python", "monai")}
    found["torch"] = torch.__version__
    if torch.cuda.is_available():
        import triton

        cudnn: Any = torch.backends.cudnn
        found |= {"triton": triton.__version__, "cudnn": str(cudnn.version())}
    return found


def aligned(rows: list[list[str]]) -> str:
    """Columns under each other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def markdown(parts: dict[str, Any]) -> str:
    """speed.md: the tables, and what has not been measured yet."""
    lines = [
        "# Speed",
        "",
        "Written by `uncus bench`, from `speed.json` beside it. Each time is the median of the",
        "rounds with its quartiles; ratios compare medians of the same run.",
    ]
    for name, title in PARTS.items():
        lines += ["", f"## {title}", ""]
        if name not in parts:
            lines.append(f"Not measured yet: `uncus bench {name} --out docs/results`.")
            continue
        part = parts[name]
        versions = ", ".join(f"{key} {value}" for key, value in part["versions"].items())
        lines += [
            f"{part['device']}; {versions}; {part['date']}; `{part['command']}`.",
            "",
            *_pipes(_module(name).table(part)),
            "",
            *_remarks(name, part),
        ]
    if missing := _missing(parts):
        lines += ["", "## Not measured here", "", *missing]
    return "\n".join(lines) + "\n"


def _remarks(name: str, part: dict[str, Any]) -> list[str]:
    if name in {"data", "predict"}:
        remarks: list[str] = _module(name).remarks(part)
        return remarks
    if name == "step":
        return [
            "A step is forward, backward and AdamW under bf16 autocast, without CUDA graphs; the",
            "peak counts weights, gradients and optimizer too.",
        ]
    errors = {
        peer: max(row["error"].get(peer, 0.0) for row in part["rows"])
        for peer in part["rows"][0]["error"]
    }
    repeat = all(row["same_bits_again"] for row in part["rows"])
    kernels = part["implementation"] == "kernels"
    return [
        ("Times are those of a CUDA graph, the device alone." if kernels else
         "**These are not the kernels**: without a GPU the layer is torch's own, and"
         " these times say nothing about the kernels."),
        "",
        f"Copying moves {part['copy_bandwidth_gb_s']:.1f} GB/s (read plus written). The floor is",
        f"{part['passes']} passes over the tensor: forward reads x twice and writes y, backward",
        "reads x and dy twice and writes dx; `of copy` is the rate of these bytes against copying.",
        "More than 100% is possible where a tensor fits in the cache.",
        "",
        "Largest relative error against float64: "
        + ", ".join(f"{peer} {error:.1e}" for peer, error in errors.items())
        + f". The same bits when run again: {'yes' if repeat else 'no'}.",
    ]  # fmt: skip


def _missing(parts: dict[str, Any]) -> list[str]:
    """What the project aims to show and has no number for."""
    on_gpu = {name for name, part in parts.items() if part.get("implementation") == "kernels"}
    out = [
        f"- {AIMS[name]} No GPU has run it yet. The command for one: "
        f"`uncus bench {name} --out docs/results`."
        for name in AIMS
        if name not in on_gpu
    ]
    if "norm" not in on_gpu:
        out.append(
            "- Tile sizes and the number of programs are reasoned, not tuned. Known without a GPU: "
            "the kernels are right in Triton's interpreter, compile for an H100 with Triton's "
            "compiler, and load and store 16 bytes a thread (tests/test_fused.py)."
        )
    return out


def _pipes(rows: list[list[str]]) -> list[str]:
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return [head, "|" + "---|" * len(rows[0]), *body]
