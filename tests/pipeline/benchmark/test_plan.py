"""The commands for a GPU that is at hand for a few minutes."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from uncus.pipeline import cli
from uncus.pipeline.bench import Bench
from uncus.pipeline.benchmark import plan
from uncus.pipeline.benchmark.journal import NAME

ROOT = Path(__file__).parents[3]


def commands(text: str) -> list[Bench]:
    """The benchmarks in a plan."""
    words = [shlex.split(line) for line in text.splitlines() if "uncus bench" in line]
    return [tyro.cli(Bench, args=line[line.index("bench") + 1 :]) for line in words]


def test_the_plan_is_printed(capsys) -> None:
    assert cli.main(["bench", "--plan"]) == 0
    text = capsys.readouterr().out
    found = commands(text)
    assert [one.what for one in found[:3]] == ["norm", "step", "step"]
    assert {"tune", "data"} <= {one.what for one in found}
    assert all(one.device == "cuda" and one.seconds > 0 for one in found)
    assert {one.out for one in found} == {Path("$RESULTS")}
    # The journal is of one command: otherwise the second call could not go on.
    assert len({one.rounds for one in found}) == 1
    assert 'RESULTS="docs/results"' in text and "cp -n" not in text


@pytest.mark.parametrize("steps", [plan.FIRST, plan.SECOND])
def test_a_call_takes_less_than_six_minutes(steps) -> None:
    assert plan.duration(steps) < plan.AT_MOST
    assert len("\n".join(plan.call("Call", steps, Path("$OUT/results")))) < 2000


def test_the_tests_of_the_plan_are_those_that_need_a_gpu() -> None:
    assert list((ROOT / "tests").rglob("test_gpu.py")) == [ROOT / plan.TESTS]


@pytest.mark.slow
def test_the_plan_works_in_a_bare_checkout_and_goes_on(tmp_path) -> None:
    """With the CPU as the device and quick sizes; each call on a machine of its own."""
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    checkout, python = tmp_path / "checkout", tmp_path / "bin" / "python3"
    for name in files.stdout.splitlines():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name, follow_symlinks=False)
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    kept = checkout / plan.RESULTS
    (kept / "speed.json").unlink()
    text = plan.plan(Path("$OUT/results"))
    assert text.count("tensorboard") == 2  # a package that is missing is named at once
    text = text.replace("--device cuda --rounds 15", "--device cpu --quick --rounds 2")
    first, second = text.replace('"-n", 8', '"-n", 0').split("\n\n")
    first = re.sub(r"step(.*) --seconds \d+", r"step\1 --seconds 8", first)
    second = re.sub(r"timeout -k 5 \d+(.*) --seconds \d+", r"\1 --seconds 500", second)
    for number, commands in enumerate((first, second)):
        out = tmp_path / f"out-{number}"
        place = {"PATH": f"{python.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        done = subprocess.run(
            ["bash", "-c", commands],
            cwd=checkout,
            env={**place, "OUT": str(out)},
            capture_output=True,
            text=True,
        )
        assert number == 1 or re.search(r"\d+ (skipped|passed)", done.stdout)
        for path in (out / "results").glob("speed.*"):
            shutil.copy2(path, kept)
    lines = [json.loads(line) for line in (kept / NAME).read_text().splitlines()]
    cases = [json.dumps([line["facts"]["command"], line["case"]]) for line in lines]
    assert len(set(cases)) == len(cases), "nothing is measured twice"
    results = json.loads((kept / "speed.json").read_text())
    for what in ("norm", "step", "data"):
        part = results[what]["cpu"]
        assert part["measured"] == part["cases"] and not part["failed"]
    assert "so far" not in (kept / "speed.md").read_text()
