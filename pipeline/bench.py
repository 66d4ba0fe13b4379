"""``uncus bench``: how fast each part runs on this machine, compared with its alternatives."""

import importlib
import importlib.metadata
import importlib.util
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from uncus.data.files import read_json, write_json, write_text
from uncus.pipeline import environment
from uncus.pipeline.benchmark.journal import Journal
from uncus.pipeline.benchmark.page import markdown
from uncus.pipeline.benchmark.tables import aligned
from uncus.pipeline.progress_bars import progress_bar
from uncus.pipeline.timing import reason

FORMAT = 5
"""Version of speed.json; files in another format are ignored."""
PARTS = ("tune", "norm", "step", "data", "predict")


@dataclass(frozen=True)
class Bench:
    """Measure, print a table and, with --out, keep it as speed.json and speed.md."""

    what: tyro.conf.Positional[Literal["all", "tune", "norm", "step", "data", "predict"]] = "all"
    """norm: GroupNorm + ReLU, forward and backward, against torch eager and compiled. tune: search
    for the fastest settings of its kernels on this GPU. step: a training step of ResNet-18 and
    ResNet-50 against MONAI's with GroupNorm. data: reading and augmentation against MONAI's
    datasets. predict: the stages of one prediction. all: every part in turn."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto uses a GPU if there is one."""
    rounds: int = 30
    """Rounds of each measurement; the median and the quartiles are reported."""
    quick: bool = False
    """Small sizes, as a smoke test."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON, one entry per part, instead of tables."""
    out: Path | None = None
    """Folder for speed.json and speed.md. Earlier results there are kept, those of a CPU next to
    those of a GPU. Run the same command again to resume an interrupted benchmark and to retry what
    failed."""

    def run(self) -> int:
        """Measure and report; returns 0, or 1 if something could not be measured."""
        if self.rounds < 2:
            raise ValueError(f"--rounds {self.rounds}: quartiles need at least 2")
        import torch

        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"--device {name}: {str(error).splitlines()[0]}; use auto") from None
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
        parts: dict[str, Any] = {}
        journals = []
        for what in PARTS if self.what == "all" else (self.what,):
            module = _module(what)
            cases = module.cases(device, self.quick)
            if not cases and self.what == what:
                raise ValueError(f"bench {what}: {name} has no kernels to tune; use a GPU")
            if not cases:
                continue
            journal = Journal(self.out, self.facts(what, device))
            journals.append(journal)
            part = self.part(what, cases, device, journal)
            if part is None:
                continue
            parts[what] = part
            if not self.as_json:
                print(aligned(module.table(part)), end="\n\n", flush=True)
            if self.out is not None:
                store(self.out, what, "gpu" if device.type == "cuda" else "cpu", part)
        if self.as_json:
            print(json.dumps(parts, indent=2))
        if len(parts) < len(journals) or any(part["failed"] for part in parts.values()):
            return 1
        for journal in journals:
            journal.discard()
        return 0

    def part(
        self, what: str, cases: list[dict[str, Any]], device: Any, journal: Journal
    ) -> dict[str, Any] | None:
        """Measure ``cases``; None if the first, which the others depend on, failed."""
        module = _module(what)
        failed = []
        with progress_bar() as bar:
            task = bar.add_task(what, total=len(cases))
            for case in cases:
                if journal.row(case) is None:
                    try:
                        journal.add(case, module.measure(case, device, self.rounds))
                    except Exception as error:  # out of memory, a compiler that gives up, ...
                        # One implementation that fails must not cost hours of GPU time.
                        why = reason(error)
                        failed.append({"case": case, "why": why})
                        print(f"bench {what} {case}: {why}", file=sys.stderr)
                bar.advance(task)
        if journal.row(cases[0]) is None:
            return None
        rows = [(case, row) for case in cases if (row := journal.row(case)) is not None]
        date = datetime.now(UTC).strftime("%Y-%m-%d")
        part: dict[str, Any] = {
            **journal.facts,
            "date": date,
            "failed": failed,
            **module.gather(rows),
        }
        if what == "tune":
            module.adopt(part, device)
        return part

    def facts(self, what: str, device: Any) -> dict[str, Any]:
        """The conditions of a measurement; results under other conditions are not reused."""
        import torch

        from uncus.models.fused.operation import uses_kernels

        settings = None
        if uses_kernels(torch.empty(0, device=device)):
            from uncus.models.fused import kernels

            settings = [kernels.settings(device, last)._asdict() for last in (False, True)]
        return {
            "device": _device_name(device),
            "kernels": settings,
            "command": self.command(what),
            "versions": _versions(),
        }

    def command(self, what: str) -> str:
        """The command that repeats the measurement of the part ``what``."""
        options = [f"--device {self.device}"] * (self.device != "auto")
        options += [f"--rounds {self.rounds}"] + ["--quick"] * self.quick
        return f"uncus bench {what} {' '.join(options)}"


def store(folder: Path, what: str, kind: str, part: dict[str, Any]) -> None:
    """Add ``part``, measured on a ``kind`` of device, to speed.json and rewrite speed.md."""
    path = folder / "speed.json"
    results = read_json(path) if path.exists() else {}
    if results.get("format") != FORMAT:
        results = {}
    results[what] = {**results.get(what, {}), kind: part}
    results = {"format": FORMAT, **{name: results[name] for name in PARTS if name in results}}
    write_json(path, results)
    write_text(folder / "speed.md", markdown(results))


def _module(what: str) -> Any:
    """The module that measures one part.

    ``cases(device, quick)`` lists the cases, as JSON, with the reference for the others first;
    ``measure(case, device, rounds)`` measures one; ``gather`` builds the part from [(case,
    result)]; ``table`` and ``remarks`` report it.
    """
    return importlib.import_module(f"uncus.pipeline.benchmark.{what}")


def _device_name(device: Any) -> str:
    import platform

    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _versions() -> dict[str, str]:
    import torch

    versions = {name: environment.versions()[name] for name in ("python", "monai")}
    versions["torch"] = torch.__version__
    if torch.cuda.is_available():
        cudnn: Any = torch.backends.cudnn
        versions["cudnn"] = str(cudnn.version())
        if importlib.util.find_spec("triton") is not None:
            versions["triton"] = importlib.metadata.version("triton")
    return versions
