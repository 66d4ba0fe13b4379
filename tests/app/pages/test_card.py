"""The page Model card: a built-in model's own card, of the run as of its files."""

from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the page needs the extra 'app'")

from uncus.app.pages.card import card_of
from uncus.pipeline.builtin.catalog import built_in
from uncus.pipeline.runs import Run


def test_a_built_in_model_shows_the_card_that_came_with_it() -> None:
    """Its audit and its source are not in the package: the page takes them from the card."""
    for run in built_in().values():
        top, card = card_of(run)
        assert top + card == run.model_card_path.read_text(encoding="utf-8")
        assert top.startswith("---") and "model-index" in top and card.lstrip().startswith("# ")
        assert "## Source" in card


def test_a_run_shows_its_files_as_they_are(run: Path) -> None:
    _, card = card_of(Run(run))
    assert "Not evaluated" in card and "## Intended use" in card
