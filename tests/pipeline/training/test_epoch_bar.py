"""The progress of a training without a terminal."""

from pathlib import Path

import pytest

from tests.conftest import TRAIN
from uncus.pipeline.cli import main
from uncus.pipeline.training.epoch_bar import NO_BAR


def test_a_line_for_some_epochs_and_none_where_another_process_shows_progress(
    cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = [*TRAIN, "--folds", "1", "--epochs", "12"]
    assert main(["train", str(cohort), str(tmp_path / "lines"), *options]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "epoch" in line]
    assert [line.split()[2] for line in lines] == [f"{epoch}/12" for epoch in range(2, 13, 2)]
    assert all("loss" in line and "score" in line for line in lines)
    assert [line.endswith(" left") for line in lines] == [True] * 5 + [False]
    monkeypatch.setenv(NO_BAR, "1")
    assert main(["train", str(cohort), str(tmp_path / "quiet"), *options]) == 0
    assert "epoch" not in capsys.readouterr().err
