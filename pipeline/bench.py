"""``uncus bench``: how fast the pieces are here, beside what one would use instead."""

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
from uncus.pipeline.timing import reason

FORMAT = 5
"""Of speed.json; what is in another is dropped."""
PARTS = ("tune", "norm", "step", "data", "predict")


@dataclass(frozen=True)
class Bench:
    """Measure, print a table and, with --out, keep it as speed.json and speed.md."""

    what: tyro.conf.Positional[Literal["all", "tune", "norm", "step", "data", "predict"]] = "all"
    """norm: GroupNorm + ReLU, forward and backward, against torch eager and compiled. tune: how its
    kernels are best cut on this GPU. step: a training step of ResNet-18 and ResNet-50 against
    MONAI's with GroupNorm. data: reading and augmenting against MONAI's datasets. predict: the
    stages of one prediction. all: one after the other."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU where there is one."""
    rounds: int = 30
    """Rounds of each measurement; the median is shown, with the quartiles."""
    quick: bool = False
    """Small sizes, to see that it runs."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON, a value for each part, instead of tables."""
    out: Path | None = None
    """Folder for speed.json and speed.md; parts measured earlier, and those of a CPU beside those
    of a GPU, are kept there. The same command again goes on where it was cut off, and tries again
    what could not be measured."""

    def run(self) -> int:
        """Measure and show; returns 0, or 1 where something could not be measured."""
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
                keep(self.out, what, "gpu" if device.type == "cuda" else "cpu", part)
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
        """What was measured of ``cases``; None without the first, which the others need."""
        from uncus.pipeline.preparation.workers import progress

        module = _module(what)
        failed = []
        with progress() as bar:
            task = bar.add_task(what, total=len(cases))
            for case in cases:
                if journal.row(case) is None:
                    try:
                        journal.add(case, module.measure(case, device, self.rounds))
                    except Exception as error:  # out of memory, a compiler that gives up, ...
                        # Hours on a GPU are not lost for one contestant that cannot run.
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
        """What a part is measured with; of other facts is another measurement."""
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
        """What measures the part ``what`` like this again."""
        options = [f"--device {self.device}"] * (self.device != "auto")
        options += [f"--rounds {self.rounds}"] + ["--quick"] * self.quick
        return f"uncus bench {what} {' '.join(options)}"


def keep(folder: Path, what: str, kind: str, part: dict[str, Any]) -> None:
    """Put ``part`` into speed.json as measured on a ``kind`` of device, and write speed.md anew."""
    path = folder / "speed.json"
    found = read_json(path) if path.exists() else {}
    if found.get("format") != FORMAT:
        found = {}
    found[what] = {**found.get(what, {}), kind: part}
    found = {"format": FORMAT, **{name: found[name] for name in PARTS if name in found}}
    write_json(path, found)
    write_text(folder / "speed.md", markdown(found))


def _module(what: str) -> Any:
    """What measures one part.

    ``cases(device, quick)`` lists what there is to measure, as JSON, first what the others are held
    against; ``measure(case, device, rounds)`` measures one; ``gather`` makes the part of [(case,
    what was measured)]; ``table`` and ``remarks`` show it.
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

    found = {name: environment.versions()[name] for name in ("python", "monai")}
    found["torch"] = torch.__version__
    if torch.cuda.is_available():
        cudnn: Any = torch.backends.cudnn
        found["cudnn"] = str(cudnn.version())
        if importlib.util.find_spec("triton") is not None:
            found["triton"] = importlib.metadata.version("triton")
    return found
