"""What a built-in model has besides its networks tells of the run, and of no single subject."""

import json
import shutil
from pathlib import Path

import pytest

from uncus.data.errors import BadInput
from uncus.data.files import read_json, write_json
from uncus.pipeline.evaluate import evaluate
from uncus.pipeline.model_card.packing import accompany
from uncus.pipeline.runs import Run


@pytest.fixture
def evaluated(sure_run: Path, tmp_path: Path) -> Run:
    """A run with its report."""
    source = shutil.copytree(sure_run, tmp_path / "run")
    evaluate(source, draws=100)
    return Run(source)


@pytest.fixture
def packed(evaluated: Run, tmp_path: Path) -> Run:
    """Its model alone, of one network."""
    shutil.copytree(evaluated.model_folder, tmp_path / "dementia" / "model")
    one = Run(tmp_path / "dementia")
    card = read_json(one.card_path)
    write_json(one.card_path, card | {"members": card["members"][:1]})
    one.seal()
    return Run(one.path)


def test_report_and_card_of_the_run_accompany_its_model(evaluated: Run, packed: Run) -> None:
    accompany(evaluated, packed)
    assert packed.report() == evaluated.report()
    rows = read_json(packed.scores_path)["rows"]
    assert sum(row["scans"] for row in rows) == len(evaluated.scans())
    card = packed.model_card_path.read_text()
    assert "# dementia: CN or AD" in card and packed.verify()[packed.card_path.name] in card
    assert "| networks | 1 |" in card and "| networks | 2 |" not in card
    report = evaluated.report()["metrics"]["auc"]["value"]
    assert f"{report:.3f}" in card and "epochs" in card


def test_a_subject_is_never_named(evaluated: Run, packed: Run) -> None:
    report = json.loads(evaluated.report_path.read_text())
    name = evaluated.scans()["participant_id"].iloc[0]
    write_json(evaluated.report_path, report | {"warnings": [f"{name} is odd"]})
    with pytest.raises(BadInput, match=f"names {name}"):
        accompany(evaluated, packed)
