"""``uncus demo``: the whole path on the phantom cohort, with the verbs that a user calls."""

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
from uncus.models.build import ModelConfig
from uncus.pipeline import demo_page
from uncus.pipeline.audit.audit import audit
from uncus.pipeline.environment import cpu_count
from uncus.pipeline.evaluate import Evaluate
from uncus.pipeline.explain import CheckOptions, Explain
from uncus.pipeline.phantom import MakePhantom
from uncus.pipeline.predict import Predict
from uncus.pipeline.prediction.scan_report import calibration, sentence
from uncus.pipeline.prepare import Prepare
from uncus.pipeline.rendering.numbers import estimate_text
from uncus.pipeline.run_files.audit_summary import summary
from uncus.pipeline.saliency.passport.lesions import concentration
from uncus.pipeline.train import Train
from uncus.pipeline.training.optimization import Optimization

POSITIVE = "AD"
NEW_SPACING = 1.5  # mm; new scans need not have the cohort's voxel size


@dataclass(frozen=True)
class Demo:
    """Make a phantom cohort, train on it, evaluate, and explain the prediction for a new scan.

    Every call starts over, through the same verbs that a user calls.
    """

    out: Path = Path("runs/demo")
    """Folder for all results, with a page index.html."""
    subjects: int = 120
    """Subjects in the cohort; each is tested by a network that was not trained on them."""
    spacing: float = 4.0
    """Voxel size of the cohort (mm)."""
    epochs: int = 20
    """Epochs of training."""
    seed: int = 0
    """Seed of the cohort, the folds and the training."""
    jobs: int = 0
    """Networks to train side by side, 1 or 2; 0 is 2 on a machine with two cores."""

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
            with clock.step("prepare the scans on one grid"):
                done(self.preparation())
            with clock.step("train two networks with GroupNorm at batch size 2"):
                done(self.training())
            with clock.step("evaluate on held-out subjects"):
                done(Evaluate(self.out / "run", baseline=("hippocampi_ml",)))
            with clock.step("check the saliency methods"):
                done(self.check())
            with clock.step("audit the cohort and the run"):
                found = audit(self.out / "run")
                print(summary(found["findings"]))
            with clock.step("register, predict and explain new scans"):
                done(self.new_subjects())
                scans = tuple(scan for scan, _ in self.folder.new_scans().values())
                done(Predict(self.out / "run", scans, self.out / "predictions", explain=POSITIVE))
            with clock.step("write the page"):
                results = self.measure(clock.seconds)
                demo_page.write(self.folder, results)
                files.write_json(self.out / "demo.json", results)
        self.show(results, clock)
        return 0

    @property
    def folder(self) -> demo_page.DemoFolder:
        """The files of the demo."""
        return demo_page.DemoFolder(self.out)

    def cohort(self) -> MakePhantom:
        """The cohort, with a montage.

        Its brains are in the standard space already: registering 120 of them takes minutes.
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
        """The cohort in space mni, so that the run accepts raw heads."""
        return Prepare(
            self.out / "phantom", self.out / "cohort", space="mni", spacing=(self.spacing,)
        )

    def new_subjects(self) -> MakePhantom:
        """A control and a patient not in the cohort, with smaller voxels.

        They are in scanner space, and are registered when they are predicted.
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
            # Weak: phantoms vary little, and training is short.
            augment=Augment(
                rotate=(3.0,),
                scale=(0.03,),
                translate=(2.0,),
                intensity=0.05,
                bias=0.03,
                noise=0.02,
            ),
        )

    def check(self) -> Explain:
        """The check of the saliency methods, in a reduced form: the fast ones, on a few scans."""
        return Explain(
            self.out / "run",
            methods=("grad_cam", "integrated_gradients", "gradient"),
            passport=CheckOptions(check=True, quick=True, lesions=self.out / "phantom"),
        )

    def measure(self, seconds: dict[str, float]) -> dict[str, Any]:
        """The content of demo.json: scores, predictions of new scans, localization of saliency."""
        report = self.folder.run.report()
        answers = {
            diagnosis: files.read_json(self.folder.prediction(scan) / "prediction.json")
            for diagnosis, (scan, _) in self.folder.new_scans().items()
        }
        scan, truth = self.folder.new_scans()[POSITIVE]
        method = files.read_json(self.folder.prediction(scan) / "prediction.json")["saliency"]
        saliency, brain, atrophy = (
            canonical(path)
            for path in (self.folder.prediction(scan) / "saliency.nii.gz", scan, truth)
        )
        return {
            "auc": report["metrics"]["auc"],
            "headline": report["headline"],
            "baselines": {name: b["auc"] for name, b in report["baselines"].items()},
            "subjects": report["counts"]["subjects"],
            "audit": summary((self.folder.run.audit() or {"findings": []})["findings"]),
            "new": {d: answer["probabilities"] for d, answer in answers.items()},
            "answers": {d: f"{sentence(one)} {calibration(one)}" for d, one in answers.items()},
            "warnings": {d: answer["warnings"] for d, answer in answers.items()},
            "saliency": {"method": method, **concentration(saliency, atrophy > 0, brain > 0)},
            "passport": dict(self.folder.run.verdicts().methods),
            "seconds": seconds,
            "notice": NOTICE,
        }

    def show(self, results: dict[str, Any], clock: "Clock") -> None:
        """Print the summary."""
        lead, saliency = results["headline"], results["saliency"]
        print(f"\n{'':2}{'step':<58}seconds")
        for name, seconds in results["seconds"].items():
            print(f"{'':2}{name:<58}{seconds:7.1f}")
        print(f"{'':2}{'all':<58}{clock.total():7.1f}\n")
        print(
            f"{lead['name']} {estimate_text(lead)} over "
            f"{results['subjects']} subjects, each tested by a network that was not trained on them"
        )
        print(f"audit: {results['audit']}")
        for diagnosis, shares in results["new"].items():
            print(f"new scan, {diagnosis}: P({POSITIVE}) = {shares[POSITIVE]:.3f}")
        print(
            f"{saliency['share']:.0%} of the saliency is inside the true atrophy: "
            f"{saliency['times_brain']:.1f} times a map uniform over the brain, "
            f"{saliency['times_volume']:.1f} times a map uniform over the volume"
        )
        print(f"\n{self.out / 'index.html'}. {NOTICE}")


class Clock:
    """Prints each step on the terminal and measures its duration."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the context (s)."""
        print(f"\n[{len(self.seconds) + 1}/8] {name}", flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 1)

    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start


def start_over(out: Path) -> None:
    """Empty the folder of an earlier demo; raises BadInput for any other folder."""
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
        raise BadInput(out, "is neither empty nor the folder of a demo", "name a new folder")
    files.write_text(marker, "uncus demo: this folder is emptied when the demo runs again\n")


def done(verb: Any) -> None:
    """Run a verb; a failure ends the demo."""
    run: Callable[[], int] = verb.run
    if code := run():
        raise ValueError(f"{type(verb).__name__} ended with exit code {code}; see above")


def canonical(path: Path) -> NDArray[Any]:
    """A volume's array [X, Y, Z], RAS+."""
    return np.asanyarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)
