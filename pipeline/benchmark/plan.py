"""The commands of ``uncus bench --plan``: a GPU that is at hand for two calls of six minutes."""

from pathlib import Path
from typing import NamedTuple

RESULTS = Path("docs/results")
TESTS = "tests/test_gpu.py"
WORKERS = """$(python3 -c 'import xdist; print("-n", 8)' 2>/dev/null)"""
PYTEST = f"python3 -u -m pytest -p no:cacheprovider {WORKERS} {TESTS}"
CHECK = (
    "python3 -c 'import uncus.pipeline.benchmark.training, uncus.pipeline.benchmark.data, "
    "tensorboard, triton' || echo 'Parts that need it will fail; the others are measured.'"
)
"""Names a package that is missing; not every part needs all of them."""
CHECKING = 15
AT_MOST = 360
"""Seconds that a call may take."""
ROUNDS = 15
GRACE = 15
"""Seconds after which a part that is over its time is ended; what it has measured is kept."""


class Step(NamedTuple):
    """A command of a call: a part of the benchmark, or the tests, and its seconds."""

    part: str
    seconds: int


TESTED = Step("tests", 95)
# The most valuable figures first. Once the kernels are tuned, what depends on them is stale.
FIRST = (TESTED, Step("norm", 65), Step("step", 135))
SECOND = (
    Step("step", 120),
    Step("tune", 60),
    Step("norm", 35),
    Step("step", 35),
    Step("data", 15),
)


def plan(out: Path) -> str:
    """Both calls, to be pasted into a shell in the root of a checkout; results go to ``out``."""
    elsewhere = out != RESULTS
    lines = [
        "# In the root of a checkout; nothing has to be installed but what uncus needs, and",
        "# PYTHONPATH may name where that is. Each call ends by itself, and may be cut off: what",
        "# it has measured is kept.",
        *call("First call", FIRST, out),
        "",
    ]
    if elsewhere:
        lines += [f"# Copy speed.* from {out} into {RESULTS} if the second runs on a new machine."]
    return "\n".join([*lines, *call("Second call, which goes on from there", SECOND, out)])


def call(title: str, steps: tuple[Step, ...], out: Path) -> list[str]:
    """The lines of one call."""
    lines = [f"# {title}: at most {duration(steps)} s", "("]
    lines += [CHECK, f'RESULTS="{out}"; mkdir -p "$RESULTS"']
    if out != RESULTS:
        lines.append(f'cp -n {RESULTS}/speed.* "$RESULTS"')
    for part, seconds in steps:
        limit = f"timeout -k 5 {seconds + GRACE}"
        if part == TESTED.part:
            lines.append(f"timeout -s INT -k 20 {seconds} {PYTEST}")  # it then reports failures
        else:
            command = f"python3 -m uncus bench {part} --device cuda --rounds {ROUNDS}"
            lines.append(f'{limit} {command} --seconds {seconds} --out "$RESULTS"')
    return [*lines, ")"]


def duration(steps: tuple[Step, ...]) -> int:
    """Seconds after which all commands have ended or been ended, but for a few."""
    return CHECKING + sum(step.seconds + GRACE for step in steps)
