"""Hostile model cards, sealed again: each gives a prediction or one line, within two seconds."""

import copy
import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run

HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 0.5, 3000, 500, 10**9, -(10**9), 10**400, 1e308, -1e308),
    *("", "x", "AD", "../x", "/etc/passwd", "x.pt", "\x1b[2J", "\ud800", "\0", "a\nb", "9" * 999),
    *([], {}, [[]], [0], [500, 500, 500], [1, 1, 1], [0] * 16, ["x"] * 3000, {"": ""}, {"x": []}),
    *("1e999", "-1e999", "deep"),
]
"""Values; 1e999 and a nesting of 500 lists are written as JSON text."""
TEXTS = {'"1e999"': "1e999", '"-1e999"': "-1e999", '"deep"': "[" * 500 + "]" * 500}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value within a card."""
    for key, inner in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value[:4])
        if isinstance(value, list)
        else ()
    ):
        yield (*path, key)
        yield from places(inner, (*path, key))


def mutate(card: Any, rng: random.Random) -> str:
    """Change a card in one to three places, in place; returns what was done."""
    done = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        *parents, last = rng.choice(list(places(card)))
        place = card
        for key in parents:
            place = place[key]
        act = rng.choice(["replace"] * 6 + ["remove", "rename", "repeat", "scale"])
        if act == "remove":
            del place[last]
        elif act == "rename" and isinstance(place, dict):
            place[f"{last}_"] = place.pop(last)
        elif act == "repeat" and isinstance(place, list):
            place.extend([place[last]] * rng.choice([1, 3000]))
        elif act == "scale" and isinstance(place[last], int | float):
            place[last] *= rng.choice([0, -1, 2, 1000, 1e-9, 1e30])
        else:
            place[last] = copy.deepcopy(rng.choice(HOSTILE))
        done.append(f"{act} {[*parents, last]}: {str(place)[:200]}")
    return "; ".join(done)


def attack(
    path: Path, scan: Path, seeds: range, out: Path, capsys: pytest.CaptureFixture[str]
) -> list[int]:
    """Predict with a hostile card for each seed; returns the exit codes."""
    shutil.copytree(path / "model", out / "model")
    run = Run(out)
    real = json.loads(run.card_path.read_text())
    codes = []
    for seed in seeds:
        card = copy.deepcopy(real)
        what = f"{seed}: {mutate(card, random.Random(seed))}"
        text = json.dumps(card)
        for name, raw in TEXTS.items():
            text = text.replace(name, raw)
        run.card_path.write_text(text)
        run.seal()
        start = time.process_time()
        code = main(["predict", str(out), str(scan)])
        seconds = time.process_time() - start
        lines = capsys.readouterr().err.splitlines()
        assert code in (0, 2), what
        assert len(lines) == (code == 2) and all(line.isprintable() for line in lines), what
        assert seconds < 2, f"{seconds:.1f} s for {what}"
        codes.append(code)
    return codes


def test_hostile_cards(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = attack(run, scan, range(60), tmp_path / "run", capsys)
    assert codes.count(2) > 30


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 1000, 250))
def test_a_thousand_hostile_cards(
    start: int, run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attack(run, scan, range(start, start + 250), tmp_path / "run", capsys)
