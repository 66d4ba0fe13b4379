"""``uncus demo``: the whole path on the phantom cohort, by the verbs that a user calls."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from uncus import NOTICE
from uncus.data import files
from uncus.data.augment import Augment
from uncus.data.errors import BadInput
from uncus.data.tables import read_table
from uncus.models.build import ModelConfig
from uncus.pipeline.environment import cpu_count
from uncus.pipeline.evaluate import Evaluate
from uncus.pipeline.phantom import MakePhantom, scan_paths
from uncus.pipeline.predict import Predict
from uncus.pipeline.prediction.output import scan_name
from uncus.pipeline.prepare import Prepare
from uncus.pipeline.runs import Run
from uncus.pipeline.train import Train
from uncus.pipeline.training.optimization import Optimization

POSITIVE = "AD"
NEW_SPACING = 1.5  # mm; a new scan need not have the voxels of the cohort


@dataclass(frozen=True)
class Demo:
    """Make a phantom cohort, train on it, evaluate, and explain the answer for a new scan.

    Everything is made anew at each call, through the same verbs that a user calls.
    """

    out: Path = Path("runs/demo")
    """Folder for all results; a page index.html shows them."""
    subjects: int = 120
    """Subjects in the cohort; each is tested by a network that never saw them."""
    spacing: float = 4.0
    """Voxel edge of the cohort in mm."""
    epochs: int = 20
    """Passes over the training scans."""
    seed: int = 0
    """Fixes the cohort, the folds and the training."""
    jobs: int = 0
    """Networks to train side by side, 1 or 2; 0 takes 2 where there are two cores."""

    def __post_init__(self) -> None:
        if self.subjects < 8 or self.epochs < 1 or not 0 <= self.jobs <= 2:
            raise ValueError(
                f"subjects={self.subjects}, epochs={self.epochs}, jobs={self.jobs}: give at least "
                "8 subjects, 1 epoch, and 0 to 2 jobs"
            )

    def run(self) -> int:
        """Run all steps; returns the exit code."""
        start_over(self.out)
        with files.locked(self.out, "demo"):
            clock = Clock()
            with clock.step("make a cohort of synthetic brains with known atrophy"):
                done(self.cohort())
            with clock.step("bring the scans onto one grid"):
                done(self.preparation())
            with clock.step("train two networks with GroupNorm at batch size 2"):
                done(self.training())
            with clock.step("evaluate on subjects that they never saw"):
                done(Evaluate(self.out / "run", baseline=("hippocampi_ml",)))
            with clock.step("register, predict and explain new scans"):
                done(self.newcomers())
                scans = tuple(scan for scan, _ in self.new_scans().values())
                done(Predict(self.out / "run", scans, self.out / "predictions", explain=POSITIVE))
            with clock.step("draw the page"):
                found = self.measure(clock.seconds)
                from uncus.pipeline import demo_page

                demo_page.write(self, found)
                files.write_json(self.out / "demo.json", found)
        self.show(found, clock)
        return 0

    def cohort(self) -> MakePhantom:
        """The cohort, with its picture.

        Its brains lie in the standard space already, since registering 120 of them takes minutes.
        """
        return MakePhantom(
            self.out / "phantom",
            subjects=self.subjects,
            registered=True,
            seed=self.seed,
            spacing=self.spacing,
            montage=self.out / "cohort.png",
        )

    def preparation(self) -> Prepare:
        """The cohort in the standard space, so that the run takes any head."""
        return Prepare(
            self.out / "phantom", self.out / "cohort", space="mni", spacing=(self.spacing,)
        )

    def newcomers(self) -> MakePhantom:
        """A control and a patient after those of the cohort, with smaller voxels.

        They lie as a scanner leaves them, and are registered when they are predicted.
        """
        return MakePhantom(
            self.out / "new",
            subjects=2,
            first=self.subjects + self.subjects % 2,
            seed=self.seed,
            spacing=NEW_SPACING,
        )

    def training(self) -> Train:
        """Two folds side by side: every subject is tested once."""
        return Train(
            self.out / "cohort",
            self.out / "run",
            target=("diagnosis",),
            classes=("CN=CN", f"{POSITIVE}={POSITIVE}"),
            folds=2,
            validation=0.0,
            seed=self.seed,
            jobs=self.jobs or min(2, cpu_count()),
            model=ModelConfig(backbone="sfcn", norm="group", groups=8, width=8, dropout=0.0),
            optimization=Optimization(epochs=self.epochs, batch_size=2, lr=3e-3, keep="last"),
            # Gentle, since the phantom's own variety is small and the time short.
            augment=Augment(
                rotate=(3.0,),
                scale=(0.03,),
                translate=(2.0,),
                intensity=0.05,
                bias=0.03,
                noise=0.02,
            ),
        )

    def new_scans(self) -> dict[str, tuple[Path, Path]]:
        """Diagnosis of each new scan -> its file and its true atrophy."""
        table = read_table(self.out / "new" / "participants.tsv")
        rows = zip(table["diagnosis"], table["participant_id"], strict=True)
        return {diagnosis: scan_paths(self.out / "new", name) for diagnosis, name in rows}

    def measure(self, seconds: dict[str, float]) -> dict[str, Any]:
        """What demo.json holds: scores, answers for the new scans, and where the saliency lies."""
        report = Run(self.out / "run").report()
        answers = {
            diagnosis: files.read_json(self.answer_folder(scan) / "prediction.json")
            for diagnosis, (scan, _) in self.new_scans().items()
        }
        scan, truth = self.new_scans()[POSITIVE]
        method = files.read_json(self.answer_folder(scan) / "prediction.json")["saliency"]
        saliency, brain, atrophy = (
            canonical(path) for path in (self.answer_folder(scan) / "saliency.nii.gz", scan, truth)
        )
        return {
            "auc": report["metrics"]["auc"],
            "baselines": {name: b["auc"] for name, b in report["baselines"].items()},
            "subjects": report["counts"]["subjects"],
            "new": {d: answer["probabilities"] for d, answer in answers.items()},
            "warnings": {d: answer["warnings"] for d, answer in answers.items()},
            "saliency": {"method": method, **concentration(saliency, atrophy > 0, brain > 0)},
            "seconds": seconds,
            "notice": NOTICE,
        }

    def answer_folder(self, scan: Path) -> Path:
        """Where the answer for a new scan lies."""
        return self.out / "predictions" / scan_name(scan)

    def show(self, found: dict[str, Any], clock: "Clock") -> None:
        """Print the summary."""
        auc, where = found["auc"], found["saliency"]
        print(f"\n{'':2}{'step':<58}seconds")
        for name, seconds in found["seconds"].items():
            print(f"{'':2}{name:<58}{seconds:7.1f}")
        print(f"{'':2}{'all':<58}{clock.total():7.1f}\n")
        print(
            f"AUC {auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f}) over "
            f"{found['subjects']} subjects, each tested by a network that never saw them"
        )
        for diagnosis, shares in found["new"].items():
            print(f"new scan, {diagnosis}: P({POSITIVE}) = {shares[POSITIVE]:.3f}")
        print(
            f"{where['share']:.0%} of the saliency lies in the true atrophy: "
            f"{where['times_brain']:.1f} times a map even over the brain, "
            f"{where['times_volume']:.1f} times one even over the volume"
        )
        print(f"\n{self.out / 'index.html'}. {NOTICE}")


class Clock:
    """Names each step on the terminal and keeps how long it took."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside (s)."""
        print(f"\n[{len(self.seconds) + 1}/6] {name}", flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 1)

    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start


def start_over(out: Path) -> None:
    """Empty the folder of an earlier demo; raises BadInput for a folder of anything else."""
    marker = out / ".demo"
    if out.exists() and not out.is_dir():
        raise BadInput(out, "is a file", "name a folder")
    if marker.exists():
        with files.locked(out, "demo"):
            for path in out.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name not in {".lock", marker.name}:
                    path.unlink()
    elif out.exists() and any(out.iterdir()):
        raise BadInput(out, "is not empty and holds no demo", "name a new folder")
    files.write_text(marker, "uncus demo: this folder is emptied when the demo runs again\n")


def done(verb: Any) -> None:
    """Run a verb; anything but success ends the demo."""
    run: Callable[[], int] = verb.run
    if code := run():
        raise ValueError(f"{type(verb).__name__} ended with exit code {code}; see above")


def canonical(path: Path) -> NDArray[Any]:
    """A volume's array [X, Y, Z], RAS+."""
    return np.asanyarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)


def concentration(
    saliency: NDArray[Any], atrophy: NDArray[np.bool_], brain: NDArray[np.bool_]
) -> dict[str, float]:
    """Where what speaks for the disease lies, against a map that is even everywhere.

    Parameters
    ----------
    saliency: [X, Y, Z]; what speaks against the class (below 0) is left out.
    atrophy, brain: [X, Y, Z], on the same grid.

    Returns
    -------
    ``share``: of the saliency's mass, wherever it lies, inside the atrophy. ``times_brain`` and
    ``times_volume``: that share over the one of a map even over the brain, or over the volume.
    """
    mass = np.clip(saliency.astype(np.float64), 0, None)
    share = float(mass[atrophy].sum() / mass.sum()) if mass.any() else 0.0
    inside = int(atrophy.sum())
    return {
        "share": share,
        "times_brain": share * int(brain.sum()) / inside,
        "times_volume": share * atrophy.size / inside,
    }
