"""A run that is large enough to be calibrated."""

from pathlib import Path

import pytest

from tests.conftest import TRAIN, write_source
from uncus.pipeline.cli import main


@pytest.fixture(scope="session")
def sure_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two folds on 40 small brains: 10 of each class are tested in each fold."""
    folder = tmp_path_factory.mktemp("sure")
    source = write_source(folder / "source", subjects=40)
    options = ["--spacing", "4", "--workers", "1"]
    assert main(["prepare", str(source), str(folder / "cohort"), *options]) == 0
    assert main(["train", str(folder / "cohort"), str(folder / "run"), *TRAIN]) == 0
    return folder / "run"
