"""``uncus bench``: how fast each part runs on this machine, compared with its alternatives."""

import importlib
import importlib.metadata
import importlib.util
import json
import math
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from uncus.data.files import read_json, write_json, write_text
from uncus.pipeline import environment
from uncus.pipeline.benchmark.journal import Case, Entry, Journal
from uncus.pipeline.benchmark.page import markdown
from uncus.pipeline.benchmark.plan import RESULTS, plan
from uncus.pipeline.benchmark.tables import aligned
from uncus.pipeline.progress_bars import progress_bar
from uncus.pipeline.timing import reason

FORMAT = 6
"""Version of speed.json; files in another format are ignored."""
NAME = "speed.json"
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
    seconds: float = 0.0
    """Begin nothing that would end later than this; 0 for no limit. What has been measured is
    reported, and the same command goes on with the rest; it repeats what depends on code or kernel
    settings that have changed. Delete speed.partial.jsonl in the folder to start anew."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON, one entry per part, instead of tables."""
    plan: bool = False
    """Measure nothing; print commands that measure the most valuable figures first, for a GPU that
    is at hand for two calls of six minutes."""
    out: Path | None = None
    """Folder for speed.json and speed.md, written after each case. Earlier results there are kept,
    those of a CPU next to those of a GPU. Run the same command again to resume an interrupted
    benchmark and to retry what failed."""

    def run(self) -> int:
        """Measure and report; returns 0, or 1 if something could not be measured."""
        if self.rounds < 2:
            raise ValueError(f"--rounds {self.rounds}: quartiles need at least 2")
        if not 0 <= self.seconds < math.inf:
            raise ValueError(f"--seconds {self.seconds:g}: must be above 0, or 0 for no limit")
        if self.plan:
            print(plan(self.out or RESULTS))
            return 0
        limit = Limit(self.seconds or math.inf)
        device = self.torch_device()
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
        for fault in _faults(device):
            print(f"warning: {fault}", file=sys.stderr)
        tuned = stored(self.out).get("tune", {}).get(_kind(device))
        if tuned:
            _module("tune").adopt(tuned, device)
        parts: dict[str, Any] = {}
        journals = []
        for what in PARTS if self.what == "all" else (self.what,):
            module = _module(what)
            if not module.cases(device, self.quick):
                if self.what == what:
                    raise ValueError(f"bench {what}: {device} has no kernels to tune; use a GPU")
                continue
            journals.append(Journal(self.out, self.facts(what, device)))
            part = self.part(what, device, journals[-1], limit)
            if part is not None:
                parts[what] = part
                if not self.as_json:
                    print(aligned(module.table(part)), end="\n\n", flush=True)
            if limit.over:
                print(f"bench {what}: {limit}; the same command goes on", file=sys.stderr)
                break
        if self.as_json:
            print(json.dumps(parts, indent=2))
        if any(part["failed"] for part in parts.values()):
            return 1
        if limit.over:
            return 0
        if len(parts) < len(journals):
            return 1
        if not self.seconds:
            for journal in journals:
                journal.discard()
        return 0

    def torch_device(self) -> Any:
        """The device to measure, which becomes torch's current one."""
        import torch

        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        device = environment.torch_device(name)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        return device

    def part(
        self, what: str, device: Any, journal: Journal, limit: "Limit"
    ) -> dict[str, Any] | None:
        """Measure a part's cases while there is time; returns the part as measured by now.

        None if the first case, which the others depend on, has not been measured.
        """
        tried: list[Case] = []
        with progress_bar() as bar:
            shown = bar.add_task(what, total=None)
            while True:
                part = self.gathered(what, device, journal)
                if self.out is not None and part is not None:
                    store(self.out, what, _kind(device), part)
                cases = self.cases(what, device, journal)
                todo = [one for one in cases if one[0] not in tried and journal.row(*one) is None]
                bar.update(shown, total=len(cases), completed=len(cases) - len(todo))
                todo.sort(key=lambda one: journal.failure(*one) != "")  # again, at the end
                if not todo or not limit.allows(journal.seconds(todo[0][0])):
                    break
                tried.append(todo[0][0])
                journal.add(self.entry(what, *todo[0], device))
        if what == "tune" and part is not None:
            _module(what).adopt(part, device)
        return part

    def cases(self, what: str, device: Any, journal: Journal) -> list[tuple[Case, Case]]:
        """Each case that is known by now, with what its result depends on."""
        module = _module(what)
        depends: Any = getattr(module, "depends", lambda case, device: {})

        def pairs(cases: Any) -> list[tuple[Case, Case]]:
            texts = [json.dumps([case, depends(case, device)]) for case in cases]
            return [tuple(json.loads(text)) for text in texts]

        def row(case: Case) -> Any:
            return journal.row(*pairs([case])[0])

        known = pairs(module.cases(device, self.quick))
        if hasattr(module, "further"):
            known += pairs(module.further(device, self.quick, row))
        return known

    def entry(self, what: str, case: Case, depends: Case, device: Any) -> Entry:
        """Measure one case. One that fails must not cost the others."""
        started, row, why = time.monotonic(), None, ""
        try:
            row = _module(what).measure(case, device, self.rounds)
        except Exception as error:  # out of memory, a compiler that gives up, ...
            why = reason(error)
            print(f"bench {what} {case}: {why}", file=sys.stderr)
        return Entry(case, depends, round(time.monotonic() - started, 3), row, why)

    def gathered(self, what: str, device: Any, journal: Journal) -> dict[str, Any] | None:
        """The part as measured by now; None without its first case."""
        cases = self.cases(what, device, journal)
        rows, stale, failed = [], [], []
        for case, depends in cases:
            row = journal.row(case, depends)
            why = journal.failure(case, depends)
            if row is None and why:
                failed.append({"case": case, "why": why})
            elif row is None and (row := journal.last_row(case)) is not None:
                stale.append(case)
            if row is not None:
                rows.append((case, row))
        if not rows or rows[0][0] != cases[0][0]:
            return None
        return {
            **journal.facts,
            "kernels": _settings(device),
            "faults": _faults(device),
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "cases": len(cases),
            "measured": len(rows),
            "stale": stale,
            "failed": failed,
            **_module(what).gather(rows),
        }

    def facts(self, what: str, device: Any) -> dict[str, Any]:
        """The conditions of a measurement; results under other conditions are not reused."""
        return {
            "device": _device_name(device),
            "command": self.command(what),
            "versions": _versions(),
        }

    def command(self, what: str) -> str:
        """The command that repeats the measurement of the part ``what``."""
        options = [f"--device {self.device}"] * (self.device != "auto")
        options += [f"--rounds {self.rounds}"] + ["--quick"] * self.quick
        return f"uncus bench {what} {' '.join(options)}"


class Limit:
    """The time that a call may take (s)."""

    def __init__(self, seconds: float) -> None:
        self.begun, self.seconds, self.over = time.monotonic(), seconds, False

    def allows(self, seconds: float) -> bool:
        """Whether ``seconds``, and a fifth more, are left; if not, it is over."""
        left = self.begun + self.seconds - time.monotonic()
        self.over = left <= 1.2 * seconds
        return not self.over

    def __str__(self) -> str:
        return f"{time.monotonic() - self.begun:.0f} of {self.seconds:g} s are over"


def stored(folder: Path | None) -> dict[str, Any]:
    """What speed.json in ``folder`` contains, part by part."""
    path = folder and folder / NAME
    results = read_json(path) if path and path.exists() else {}
    return results if results.get("format") == FORMAT else {}


def store(folder: Path, what: str, kind: str, part: dict[str, Any]) -> None:
    """Add ``part``, measured on a ``kind`` of device, to speed.json and rewrite speed.md.

    A part that has just begun does not replace one with more results.
    """
    results = stored(folder)
    before = results.get(what, {}).get(kind)
    unfinished = part["measured"] + len(part["failed"]) < part["cases"]
    if before and unfinished and part["measured"] < before["measured"]:
        return
    results[what] = {**results.get(what, {}), kind: part}
    results = {"format": FORMAT, **{name: results[name] for name in PARTS if name in results}}
    write_json(folder / NAME, results)
    write_text(folder / "speed.md", markdown(results))


def _module(what: str) -> Any:
    """The module that measures one part.

    ``cases(device, quick)`` lists the cases, as JSON, the most valuable first, and as the very
    first one what the others are compared with; ``measure(case, device, rounds)`` measures one;
    ``gather`` builds the part from [(case, result)], which may be some of the cases; ``table`` and
    ``remarks`` report it. Where results become stale, ``depends(case, device)`` is what they depend
    on. Where cases follow from results, ``further(device, quick, row)`` lists them; ``row(case)``
    is a result or None.
    """
    return importlib.import_module(f"uncus.pipeline.benchmark.{what}")


def _kind(device: Any) -> str:
    return "gpu" if device.type == "cuda" else "cpu"


def _faults(device: Any) -> list[str]:
    """Known errors of bf16 convolutions with these versions of torch and cuDNN, wrong or slow."""
    import torch

    from uncus.pipeline.training.bf16_check import known_faults

    if device.type != "cuda":
        return []
    cudnn: Any = torch.backends.cudnn
    wrong, slow = known_faults(torch.__version__, cudnn.version())
    return wrong + slow


def _settings(device: Any) -> list[dict[str, int]] | None:
    """The kernels' settings in either layout; None where there are no kernels."""
    import torch

    from uncus.models.fused.operation import uses_kernels

    if not uses_kernels(torch.empty(0, device=device)):
        return None
    from uncus.models.fused import kernels

    return [kernels.settings(device, last)._asdict() for last in (False, True)]


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
