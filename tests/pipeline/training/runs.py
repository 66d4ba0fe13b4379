"""What several tests of training read and make."""

from pathlib import Path

from uncus.data.files import sha256
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.build import ModelConfig
from uncus.pipeline.training.optimization import Optimization
from uncus.pipeline.training.options import TrainingOptions
from uncus.pipeline.training.run_setup import label_scans, set_up
from uncus.pipeline.training.task import Devices, Task


def weights(run: Path) -> list[str]:
    """Hashes of the weights of each network."""
    return [sha256(path) for path in sorted((run / "model").glob("fold-*.safetensors"))]


def small_task(cohort: Path, out: Path) -> Task:
    """The task of a run of two folds with a tiny network."""
    options = TrainingOptions(
        cohort,
        out,
        target=("diagnosis",),
        classes=("CN=CN", "AD=AD"),
        folds=2,
        model=ModelConfig("tiny"),
        optimization=Optimization(epochs=3),
        devices=Devices(accelerator="cpu"),
    )
    prepared = PreparedCohort.open(cohort)
    return set_up(options, prepared, label_scans(options, prepared))
