"""The page Runs: what it shows of a run."""

import shutil
from pathlib import Path

import pytest
import streamlit as st

from uncus.app.pages.runs import drawn_of, in_words
from uncus.pipeline.builtin import catalog


def test_a_built_in_model_has_no_figures_and_that_is_no_error(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(st, "error", shown.append)
    models = tmp_path / "models"
    shutil.copytree(run / "model", models / "dementia" / "model")
    (models / "dementia" / "report.json").write_text("{}")
    assert drawn_of(models / "dementia") == {} and len(shown) == 1
    monkeypatch.setattr(catalog, "FOLDER", models)
    assert drawn_of(models / "dementia") == {} and len(shown) == 1


def test_metrics_are_named_in_full() -> None:
    assert in_words("AUC") == "AUC" and in_words("AUC, AD") == "AUC, Alzheimer's-type dementia"
    assert in_words("MAE, hippocampus_left") == "MAE, left hippocampus"
