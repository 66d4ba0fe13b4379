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


def write_gibbs(folder: Path) -> Path:
    """A Python file of a user's, with the MONAI transform ``gibbs``."""
    path = folder / "mine.py"
    path.write_text(
        "from monai.transforms import RandGibbsNoised\n"
        'gibbs = RandGibbsNoised("volume", prob=0.5, alpha=(0.4, 0.8))\n'
    )
    return path
