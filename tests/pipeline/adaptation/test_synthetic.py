"""What was trained on phantoms stays marked as such."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import TRAIN
from uncus.data.files import read_json, write_json
from uncus.pipeline.adaptation.adapt import adapt
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run
from uncus.pipeline.trust.domain import STARTED, SYNTHETIC, synthetic_warning


@pytest.fixture
def phantoms(run: Path, tmp_path: Path) -> Run:
    """A run whose card says that it was trained on phantoms."""
    made = Run(Path(shutil.copytree(run, tmp_path / "phantoms")))
    card = read_json(made.card_path)
    card["domain"]["synthetic"] = True
    write_json(made.card_path, card)
    made.seal()
    return made


def test_a_run_of_phantoms_stays_one_when_it_is_adapted(
    phantoms: Run, site: Path, tmp_path: Path
) -> None:
    made = Run(adapt(phantoms.path, site, tmp_path / "out", method="none"))
    assert synthetic_warning(made.card) == [SYNTHETIC]
    card = made.model_card_path.read_text()
    assert "synthetic-data" in card and "Trained on synthetic brains" in card


def test_weights_that_started_from_phantoms_are_said_to(
    phantoms: Run, cohort: Path, site: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert main(["train", str(cohort), str(out), *TRAIN, "--init-from", str(phantoms.path)]) == 0
    adapted = adapt(out, site, tmp_path / "adapted", method="none")
    for made in (Run(out), Run(adapted)):
        assert made.card["domain"]["synthetic"] is False, "its scans are of people"
        assert synthetic_warning(made.card) == [STARTED]
        card = made.model_card_path.read_text()
        assert "synthetic-data" in card and f"{STARTED[1:]}." in card
