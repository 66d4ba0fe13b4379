"""Options of a training from config.json."""

import json
from pathlib import Path

import pytest

from uncus.pipeline.cli import main
from uncus.pipeline.training.options import TrainingOptions


@pytest.mark.parametrize("number", [-1, 10**400])
def test_numbers_of_networks_and_seeds_are_limited(number: int) -> None:
    for make in (
        lambda: TrainingOptions(folds=number),
        lambda: TrainingOptions(seeds=number),
        lambda: TrainingOptions(jobs=number),
        lambda: TrainingOptions(seed=number),
    ):
        with pytest.raises(ValueError, match=r"must be [01] to \d+$"):
            make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fold": 3}, "did you mean 'folds'"),
        ({"folds": 2.5}, "folds"),
        ({"where": "$import os"}, ""),
        ({"model": {"norm": "grup"}}, "group"),
    ],
)
def test_options_from_a_file_are_checked_and_never_evaluated(
    cohort: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object],
    message: str,
) -> None:
    config = json.loads((run / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    options = ["--config", str(tmp_path / "config.json")]
    assert main(["train", str(cohort), str(tmp_path / "run"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
