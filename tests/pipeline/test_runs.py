"""The run folder: members' names, the seal, and runs that are not finished or not runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.run_files.cards import CARD
from uncus.data import files
from uncus.data.errors import BadInput
from uncus.pipeline.cli import main
from uncus.pipeline.runs import SCHEMA, Member, Run, choose, members


@pytest.fixture
def sealed(tmp_path: Path) -> Run:
    """A run with a sealed model folder; its weights are arbitrary bytes."""
    run = Run(tmp_path / "run")
    files.write_json(run.card_path, CARD)
    (run.model_folder / "fold-0.safetensors").write_text("weights")
    run.reference_path.write_text("reference")
    run.seal()
    return run


def refusal(run: Run) -> str:
    """The error that reading the run's model anew raises."""
    with pytest.raises(BadInput) as caught:
        Run(run.path).verify()
    return str(caught.value)


def test_members_are_named_by_fold_and_only_then_by_seed() -> None:
    assert members(2, 7, 1) == (Member(0, 7, "fold-0"), Member(1, 7, "fold-1"))
    two = members(2, 7, 2)
    names = ["fold-0_seed-7", "fold-0_seed-8", "fold-1_seed-7", "fold-1_seed-8"]
    assert [m.name for m in two] == names
    assert [(m.fold, m.seed) for m in two] == [(0, 7), (0, 8), (1, 7), (1, 8)]
    assert len({Run(Path()).weights(m) for m in members(11, 0, 11)}) == 121


def test_a_sealed_model_verifies(sealed: Run) -> None:
    assert set(sealed.verify()) == {"card.json", "fold-0.safetensors", "reference.safetensors"}
    assert sealed.target.classes == {"CN": ("0",), "AD": ("1",)}
    (sealed.model_folder / ".partial").write_text("")
    sealed.seal()
    assert ".partial" not in sealed.verify()


@pytest.mark.parametrize("name", ["card.json", "fold-0.safetensors", "reference.safetensors"])
def test_a_flipped_bit_is_found(sealed: Run, name: str) -> None:
    path = sealed.model_folder / name
    content = bytearray(path.read_bytes())
    content[content.index(b"0" if name == "card.json" else b"e")] ^= 1
    path.write_bytes(content)
    assert "SHA-256" in refusal(sealed)
    assert str(path) in refusal(sealed)


@pytest.mark.parametrize("name", ["fold-0.safetensors", "reference.safetensors"])
def test_a_lost_file_is_found(sealed: Run, name: str) -> None:
    (sealed.model_folder / name).unlink()
    assert f"{sealed.model_folder / name}: is missing" in refusal(sealed)


@pytest.mark.parametrize("name", ["card.json", "fold-0.safetensors", "reference.safetensors"])
def test_a_seal_that_leaves_a_file_out_is_no_seal(sealed: Run, name: str) -> None:
    seal = sealed.seal_path
    lines = [line for line in seal.read_text().splitlines() if not line.endswith(name)]
    seal.write_text("\n".join(lines))
    assert f"does not list {name}" in refusal(sealed)
    seal.unlink()
    assert "is missing" in refusal(sealed)


def test_unfinished_and_other_folders_have_their_own_errors(tmp_path: Path) -> None:
    assert "is not a run" in refusal(Run(tmp_path / "absent"))
    run = Run(tmp_path / "run")
    files.write_json(run.config_path, {"folds": 2})
    assert "training is not finished; continue it with uncus train --resume" in refusal(run)
    with pytest.raises(BadInput, match="is missing"):
        run.predictions()
    with pytest.raises(BadInput, match="is missing"):
        run.scans()


@pytest.mark.parametrize(
    ("card", "cause"),
    [
        ({**CARD, "schema": SCHEMA + 1}, f"schema {SCHEMA + 1} is newer than {SCHEMA}"),
        ({**CARD, "schema": "1"}, "is not a model card"),
        ([CARD], "is not a model card"),
        ({}, "is not a model card"),
    ],
)
def test_other_cards_are_refused(sealed: Run, card: Any, cause: str) -> None:
    (sealed.model_folder / "card.json").write_text(json.dumps(card))
    sealed.seal()
    assert cause in refusal(sealed)


@pytest.mark.parametrize("name", ["config", "environment"])
def test_json_that_is_not_an_object_is_refused(tmp_path: Path, name: str) -> None:
    run = Run(tmp_path)
    files.write_json(getattr(run, f"{name}_path"), [1])
    with pytest.raises(BadInput, match="contains a list, not an object"):
        getattr(run, name)


def names(only: list[str], seeds: int = 2) -> list[str]:
    return [member.name for member in choose(members(3, seed=4, seeds=seeds), only)]


def test_folds_and_seeds_are_chosen() -> None:
    assert names(["fold-2", "seed-4"]) == ["fold-2_seed-4"] == names(["fold-2_seed-4"])
    assert names(["fold-0", "fold-2", "seed-5"]) == ["fold-0_seed-5", "fold-2_seed-5"]
    assert names(["fold-1"]) == ["fold-1_seed-4", "fold-1_seed-5"]
    assert len(names(["seed-4"])) == 3 and len(names([])) == 6
    assert names(["fold-2"], seeds=1) == ["fold-2"]
    for unknown in ("fold-3", "seed-0", "fold2"):
        with pytest.raises(ValueError, match=f"--only {unknown}: must be of fold-0, fold-1"):
            choose(members(3, seed=4, seeds=2), ["fold-1", unknown])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train COHORT COHORT --target diagnosis", "is a prepared cohort"),
        ("compare COHORT COHORT --target diagnosis", "is a prepared cohort"),
        ("adapt RUN COHORT COHORT", "is a prepared cohort"),
        ("evaluate RUN --on COHORT --out COHORT", "is a prepared cohort"),
        ("evaluate RUN --on COHORT --out RUN", "is a run"),
        ("prepare SOURCE RUN", "is a run"),
        ("compare COHORT RUN --target diagnosis", "is a run"),
        ("train COHORT COMPARISON --target diagnosis", "is a comparison"),
    ],
)
def test_results_of_another_kind_are_not_replaced(
    command: str,
    message: str,
    cohort: Path,
    run: Path,
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Path(shutil.copytree(run, tmp_path / "run"))
    (run / ".lock").touch()  # as locks are left by some versions of filelock
    (tmp_path / "comparison" / "cells").mkdir(parents=True)
    folders = {"COHORT": cohort, "RUN": run, "SOURCE": source}
    folders |= {"COMPARISON": tmp_path / "comparison"}
    paths = [path for folder in folders.values() for path in folder.rglob("*") if path.is_file()]
    before = {path: files.sha256(path) for path in paths}
    capsys.readouterr()
    assert main([str(folders.get(word, word)) for word in command.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{message}; choose another folder" in line
    assert {path: files.sha256(path) for path in paths} == before
