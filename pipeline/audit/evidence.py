"""What an audit looks at: scans with labels and folds, their images, and a run's predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from uncus.data import bids_derivatives
from uncus.data.design.splits import Splits, make_splits
from uncus.data.design.targets import Target
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import MANIFEST, PreparedCohort
from uncus.pipeline.audit import image_facts
from uncus.pipeline.audit.image_facts import ImageFacts
from uncus.pipeline.evaluation.metrics import Array
from uncus.pipeline.evaluation.predictions import SCAN, Outputs, Study, model_outputs
from uncus.pipeline.progress_bars import track
from uncus.pipeline.runs import Run
from uncus.pipeline.training.pretraining import source

FOLDS = 5
"""Of a cohort without a run; fewer where a class has fewer subjects."""


@dataclass(frozen=True)
class Images:
    """The scans of a prepared cohort that are looked at.

    Attributes
    ----------
    cohort: where they are.
    rows: int [N], their positions in it.
    """

    cohort: PreparedCohort
    rows: Sequence[int]

    @cached_property
    def facts(self) -> list[ImageFacts]:
        """What is measured in each image."""
        return [self.measure(row) for row in track(list(self.rows), "images")]

    def measure(self, row: int) -> ImageFacts:
        """Of one scan."""
        entry = self.cohort.manifest["scans"][row]
        image = self.cohort.path / entry["derivative"]
        return image_facts.measure(
            np.asarray(self.cohort.volumes[row], np.float32),
            self.cohort.grid.affine,
            bids_derivatives.read_transform(image),
            bids_derivatives.read_origin(image),
            entry["contact"],
        )

    @property
    def names(self) -> list[str]:
        """The subject of each."""
        return [str(name) for name in self.cohort.table["participant_id"].iloc[list(self.rows)]]


@dataclass(frozen=True)
class Evidence:
    """A cohort or a run under audit.

    Attributes
    ----------
    name: of the cohort or the run.
    scans: one row per scan, cells as strings, index 0 to N - 1.
    target: None where no column was named.
    labels: int [N] classes, -1 for none; or float [N, K]; None without a target.
    splits: of the run, or folds made for the audit of a cohort; None without a target.
    images: None where the cohort of a run is not there; ``missing`` says why.
    run: None for a cohort.
    outputs: the run's out-of-fold outputs, a row per scan.
    earlier: what the run's weights started from, and the scans it was trained on.
    """

    name: str
    scans: pd.DataFrame
    target: Target | None = None
    labels: Array | None = None
    splits: Splits | None = None
    images: Images | None = None
    missing: str = ""
    run: Run | None = None
    outputs: Outputs | None = None
    earlier: Images | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none for a regression or without a target."""
        return () if self.target is None or self.target.regression else self.target.names

    @property
    def subjects(self) -> NDArray[np.str_]:
        """The subject of each scan, [N]."""
        return self.scans["participant_id"].to_numpy(dtype=str)

    @cached_property
    def firsts(self) -> NDArray[np.intp]:
        """The first labelled scan of each subject, or the first where there are no labels."""
        labelled = np.ones(len(self.scans), bool)
        if self.labels is not None:
            values = np.asarray(self.labels, float).reshape(len(self.scans), -1)
            labelled = values[:, 0] >= 0 if self.classes else np.isfinite(values).all(axis=1)
        rows = np.flatnonzero(labelled)
        return rows[np.sort(np.unique(self.subjects[rows], return_index=True)[1])]

    @cached_property
    def tested(self) -> NDArray[np.bool_]:
        """Which of ``firsts`` are tested by a fold that has two classes in training."""
        assert self.splits is not None
        labels, names = np.asarray(self.labels)[self.firsts], self.subjects[self.firsts]
        tested = np.zeros(len(names), bool)
        for fold in range(self.splits.folds):
            train, test = self.splits.subjects(fold, "train"), self.splits.subjects(fold, "test")
            train |= self.splits.subjects(fold, "validation")
            if len(np.unique(labels[np.isin(names, list(train))])) > 1:
                tested |= np.isin(names, list(test))
        return tested

    @property
    def fewest(self) -> int:
        """How many subjects of the rarest class are tested."""
        labels = np.asarray(self.labels)[self.firsts][self.tested].astype(int)
        return int(np.bincount(labels, minlength=len(self.classes)).min())


def of_cohort(
    cohort: PreparedCohort, columns: Sequence[str], classes: Sequence[str], regression: bool
) -> Evidence:
    """A prepared cohort; with a target, folds are made as ``uncus train`` makes them.

    Raises
    ------
    BadInput: the target is no column of it, or a value is in no class.
    """
    name, scans = cohort.path.resolve().name, cohort.table.reset_index(drop=True)
    images = Images(cohort, range(len(scans)))
    if not columns:
        return Evidence(name, scans, images=images)
    study = Study.of(scans, Target.parse(columns, classes, regression), EVERYBODY)
    splits = None
    if study.target.is_classification:
        splits = folds_for(scans, study.labels)
    return Evidence(name, scans, study.target, study.labels, splits, images)


EVERYBODY = Splits(
    pd.DataFrame({"participant_id": ["sub-1", "sub-2"], "fold-0": ["train", "test"]})
)


def folds_for(scans: pd.DataFrame, labels: Array) -> Splits | None:
    """Folds over the labelled subjects; None where they are too few."""
    known = np.asarray(labels >= 0)
    table, y = scans[known], labels[known]
    counts = pd.Series(y).groupby(table["participant_id"].to_numpy()).first().value_counts()
    folds = min(FOLDS, int(counts.min()) if len(counts) > 1 else 0)
    return make_splits(table, y, folds=folds, validation=0.0) if folds > 1 else None


def of_run(run: Run, cohort_path: Path | None, earlier: Path | None) -> Evidence:
    """A finished run, and the images of the cohort that it was trained on, where they are there.

    Parameters
    ----------
    cohort_path: where the cohort is now; by default where it was.
    earlier: where the cohort of its pre-training is now.

    Raises
    ------
    BadInput: a file of the run is missing or damaged, or ``cohort_path`` is another cohort.
    """
    run.verify_results()
    study = Study.of(run.scans(), run.target, run.splits())
    outputs = model_outputs(study, run.predictions(), run.predictions_path).pooled("test")
    images, missing = images_of(run, study.scans, cohort_path)
    return Evidence(
        name=run.path.resolve().name,
        scans=study.scans,
        target=study.target,
        labels=study.labels,
        splits=study.splits,
        images=images,
        missing=missing and f"{missing}: name its cohort with --cohort",
        run=run,
        outputs=outputs.take(outputs.labelled),
        earlier=pretraining_images(run, earlier),
    )


def images_of(run: Run, scans: pd.DataFrame, path: Path | None = None) -> tuple[Images | None, str]:
    """The images of a run's scans, or why there are none.

    Raises
    ------
    BadInput: ``path`` is given, and is not the cohort of the run.
    """
    here = path or Path(str(run.config.get("cohort", "")))
    if not (here / MANIFEST).is_file() and path is None:
        return None, f"the cohort of the run is not at {here}"
    cohort = PreparedCohort.open(here)
    if cohort.fingerprint != run.environment.get("cohort_fingerprint"):
        if path:
            raise BadInput(path, "is not the cohort of the run", "name the one it was trained on")
        return None, f"{here} was changed since the run"
    places = pd.MultiIndex.from_frame(cohort.table[SCAN]).get_indexer(
        pd.MultiIndex.from_frame(scans[SCAN])
    )
    return Images(cohort, [int(place) for place in places]), ""


def pretraining_images(run: Run, path: Path | None) -> Images | None:
    """The scans that the weights of a run were trained on before, if in another cohort."""
    start = str(run.config.get("init_from") or "")
    before = run.pretraining if run.pretraining.config_path.exists() else source(Path(start))
    if not start or not isinstance(before, Run) or not before.config_path.exists():
        return None
    if before.environment.get("cohort_fingerprint") == run.environment.get("cohort_fingerprint"):
        return None  # the same scans: compared by name
    scans = before.scans()
    used = set(before.splits().frame["participant_id"]) - before.splits().subjects(0, "holdout")
    return images_of(before, scans[scans["participant_id"].isin(used)], path)[0]
