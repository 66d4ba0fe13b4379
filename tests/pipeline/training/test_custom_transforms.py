"""Training with a user's transforms: recorded with the run, which only the same ones continue."""

from pathlib import Path

import pytest

from tests.conftest import TRAIN
from tests.pipeline.training.runs import weights, write_gibbs
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run


def test_they_are_recorded_and_a_run_is_resumed_with_the_same(
    cohort: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, out = write_gibbs(tmp_path), tmp_path / "run"
    options = [*TRAIN, "--transforms", f"before={mine}:gibbs", f"{mine}:gibbs"]
    assert main(["train", str(cohort), str(out), *options]) == 0
    assert weights(out) != weights(run)
    recorded = Run(out).card["training"]["transforms"]
    assert [one["transform"] for one in recorded] == [f"before={mine}:gibbs", f"{mine}:gibbs"]
    assert all(len(one["sha256"]) == 64 for one in recorded)
    mine.write_text(mine.read_text() + "# changed\n")
    assert main(["train", str(cohort), str(out), *options, "--resume"]) == 2
    assert "transforms (the content of their files)" in capsys.readouterr().err


def test_a_state_of_their_own_is_a_warning_and_an_error_leaves_no_run(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, out = tmp_path / "mine.py", tmp_path / "run"
    mine.write_text(
        "import numpy as np\nrng = np.random.default_rng(0)\n"
        "def noise(data):\n"
        "    volume = data['volume']\n"
        "    return {'volume': volume + float(rng.normal())}\n"
        "def crop(data):\n    return {'volume': data['volume'][:, 1:]}\n"
    )
    command = ["train", str(cohort), str(out), *TRAIN, "--epochs", "1", "--transforms"]
    assert main([*command, f"{mine}:crop"]) == 2
    assert "must keep the shape" in capsys.readouterr().err and not out.exists()
    assert main([*command, f"{mine}:noise"]) == 0
    assert "keeps a random state of its own" in "".join(capsys.readouterr())
    # Options of another run are taken, but not its code.
    other = ["train", str(cohort), str(tmp_path / "other"), "--config", str(out / "config.json")]
    mine.unlink()
    assert main(other) == 0
