"""Several processes train one network: as one process does, and none is left when one ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.conftest import TRAIN
from uncus.models.weights import read_weights
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run
from uncus.pipeline.training import processes
from uncus.pipeline.training.task import Devices

ROOT = Path(__file__).parents[3]
LAUNCHED = ("SLURM", "TORCHELASTIC", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER")
ENV = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHED)}
ENV |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
UNCUS = [sys.executable, "-m", "uncus"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def srun(rank: int, tasks: int = 2) -> dict[str, str]:
    """The variables that srun gives a task on one machine."""
    names = {"NTASKS": tasks, "PROCID": rank, "LOCALID": rank, "NODEID": 0, "NNODES": 1}
    names |= {"STEP_ID": 0, "JOB_ID": 7000 + os.getpid() % 1000, "JOB_NODELIST": "localhost"}
    names |= {"JOB_NAME": "job", "STEP_NODELIST": "localhost"}
    return {f"SLURM_{name}": str(value) for name, value in names.items()}


def command(cohort: Path, out: Path, *options: str) -> list[str]:
    """Five training subjects a fold, so that the last batch of two has one scan."""
    return ["train", str(cohort), str(out), *TRAIN, "--epochs", "2", "--lr", "0.001", *options]


def start_tasks(arguments: Sequence[str]) -> list[subprocess.Popen[str]]:
    """The same command twice, as srun starts it."""
    return [
        subprocess.Popen(
            [*UNCUS, *arguments], env={**ENV, **srun(rank)}, stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]


def run_as(launcher: str, arguments: Sequence[str]) -> None:
    """Train with two processes on the CPU."""
    if launcher == "srun":
        tasks = start_tasks(arguments)
        errors = [task.communicate(timeout=300)[1] for task in tasks]
        assert [task.returncode for task in tasks] == [0, 0], errors
        return
    before = [*TORCHRUN, "-m", "uncus"] if launcher == "torchrun" else UNCUS
    subprocess.run([*before, *arguments], env=ENV, check=True, timeout=300)


@pytest.fixture(scope="module")
def alone(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process at batch size 2."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main(command(cohort, out, "--batch-size", "2")) == 0
    return out


def difference(one: Path, other: Path) -> float:
    """The largest difference of two runs' weights; also checks the other's files."""
    Run(other).verify()
    paths = sorted((one / "model").glob("fold-*.safetensors"))
    assert len(paths) == 2
    pairs = [(read_weights(path), read_weights(other / "model" / path.name)) for path in paths]
    before, after = Run(one).training_curves(), Run(other).training_curves()
    for name in before:
        for column in ("loss", "val_loss", "score"):
            assert after[name][column].tolist() == pytest.approx(before[name][column], abs=1e-5)
    return max(float((a[name] - b[name]).abs().max()) for a, b in pairs for name in a)


@pytest.mark.parametrize(
    "launcher",
    ["uncus", *(pytest.param(name, marks=pytest.mark.slow) for name in ("torchrun", "srun"))],
)
def test_two_processes_train_the_weights_of_one(
    launcher: str, cohort: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = ["--devices", "2", "--batch-size", "1"]
    options += ["--strategy", "ddp"] * (launcher == "torchrun")
    run_as(launcher, command(cohort, out, *options))
    assert difference(alone, out) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--balance", "weights", "--label-smoothing", "0.1"],
        ["--target", "age", "--regression", "--where", "age > 0"],
        ["--trunk-lr", "0", "--freeze-norms", "--refit-head", "0.1"],
        ["--covariates", "sex", "--balance", "sampling", "--memory", "low"],
        ["--adversarial", "0.05"],
    ],
    ids=["weights", "regression", "frozen", "covariates", "adversarial"],
)
def test_two_processes_train_the_weights_of_one_with(
    options: list[str], cohort: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    if "--regression" in options:
        base = [x for x in command(cohort, one) if x not in ("--classes", "CN=CN", "AD=AD")]
    else:
        base = command(cohort, one)
    assert main([*base, *options, "--batch-size", "2"]) == 0
    base[2] = str(two)
    run_as("uncus", [*base, *options, "--devices", "2", "--batch-size", "1"])
    # AdamW's first steps are of the size of the learning rate, whatever that of the gradient: where
    # it is 0 but for rounding errors, these decide.
    assert difference(one, two) < 1e-4


@pytest.mark.parametrize("killed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_process_ends_the_other_and_the_run_goes_on(
    killed: int, cohort: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    long = command(cohort, out, "--devices", "2", "--batch-size", "1", "--epochs", "100000")
    tasks = start_tasks(long)
    epochs = Run(out).path / "fold-0" / "metrics.csv"
    for _ in range(600):
        if epochs.exists():
            break
        assert all(task.poll() is None for task in tasks)
        time.sleep(0.1)
    tasks[killed].kill()
    _, errors = tasks[1 - killed].communicate(timeout=60)
    tasks[killed].communicate()
    assert tasks[1 - killed].returncode == 2
    assert "Traceback" not in errors
    assert "another process of this training has ended" in errors.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--devices", "2", "--jobs", "2"], "--jobs 2 trains networks with one device each"),
        (["--devices", "0"], "must be a number above 0, or auto"),
        (["--devices", "-1"], "must be a number above 0, or auto"),
        (["--devices", "many"], "must be a number above 0, or auto"),
        (["--nodes", "2"], "start uncus train on every machine"),
        (["--nodes", "0"], "--nodes must be at least 1"),
        (["--strategy", "ddp_spawn"], "strategy"),
        (["--strategy", "fsdp"], "strategy"),
        (["--accelerator", "tpu"], "must be auto, cpu or gpu"),
    ],
)
def test_devices_that_cannot_work_are_refused_and_leave_nothing(
    options: list[str],
    reason: str,
    cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(cohort, tmp_path / "run", *options)) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error and len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("variables", "options", "reason"),
    [
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4"}, [], "WORLD_SIZE=4"),
        (srun(0, tasks=4), ["--devices", "2"], "SLURM_NTASKS=4"),
    ],
)
def test_another_number_of_processes_than_devices_is_refused(
    variables: dict[str, str],
    options: list[str],
    reason: str,
    cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(command(cohort, tmp_path / "run", *options)) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "variables",
    [
        {name: value for name, value in srun(3, tasks=4).items() if name != "SLURM_STEP_ID"},
        srun(3, tasks=4),
        {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.1"},
    ],
    ids=["batch script", "step", "torchrun"],
)
def test_variables_of_a_launcher_do_not_change_what_one_process_trains(
    variables: dict[str, str],
    cohort: Path,
    alone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "run"
    assert main(command(cohort, out, "--batch-size", "2")) == 0
    assert difference(alone, out) == 0
    assert list((out / "fold-0" / "tensorboard").iterdir())


def test_all_devices_of_a_machine_without_a_gpu_are_one_process() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    before = signal.getsignal(signal.SIGINT)
    assert processes.process_count(Devices(devices="auto")) == 1
    assert processes.process_count(Devices("cpu", "3", nodes=2)) == 6
    assert signal.getsignal(signal.SIGINT) == before
