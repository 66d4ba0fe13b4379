"""Another cohort than the one a run was trained on, predicted to be evaluated."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from uncus.data.design.row_filter import select
from uncus.data.design.splits import Splits
from uncus.data.design.targets import Target, class_indices, target_values
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.tables import clean, need_column
from uncus.data.text import grouped, shorten
from uncus.pipeline.evaluation.predictions import SCAN, Predicted, Study
from uncus.pipeline.prediction.predictor import Predictor
from uncus.pipeline.prediction.prepared_scans import check_space, predict_prepared
from uncus.pipeline.prediction.results import Prediction
from uncus.pipeline.progress_bars import track
from uncus.pipeline.runs import Run
from uncus.pipeline.training.pretraining import TrainingData, training_data

Overlap = Literal["refuse", "leave-out", "other-people"]
TRAINED = "training/"
"""Before the names of the subjects that baselines are fitted on: no subject of a cohort has it."""
FOREIGN = "is of another domain than the run's: uncus predict names no class for it"


@dataclass(frozen=True)
class ExternalScans:
    """Scans of another cohort, and their labels there.

    Parameters
    ----------
    target, classes: column and values of the labels, where they differ from the run's.
    where: the scans to use.
    overlap: what to do with subjects that are named like training subjects.
    """

    cohort: PreparedCohort
    target: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    where: str = ""
    overlap: Overlap = "refuse"

    def labelled(self, target: Target) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
        """The labelled scans (their index is the row in the cohort), and labels for ``target``.

        Raises
        ------
        BadInput: see :meth:`every`, or no labelled scan.
        """
        table, labels = self.every(target)
        known = np.isfinite(labels).any(axis=1) if target.regression else labels >= 0
        if not known.any():
            raise BadInput(
                self.cohort.path,
                f"no scan has a {', '.join(self.target or target.columns)}",
                "check --target and --where",
            )
        return table[known], labels[known]

    def every(self, target: Target) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
        """All scans, and their labels for ``target``: -1, or NaN, where there are none.

        The label's columns have the names that ``target`` gives them.

        Raises
        ------
        BadInput: other classes than the run's, or a value that is in none.
        """
        columns = self.target or target.columns
        here = Target(columns, target.classes, target.regression)
        if self.classes:
            here = Target.parse(columns, self.classes, target.regression)
        if len(columns) != len(target.columns) or tuple(here.classes) != tuple(target.classes):
            raise BadInput(
                "--classes" if self.classes else "--target",
                f"{', '.join(here.names)}; the run predicts {', '.join(target.names)}",
                "name as many, in this order",
            )
        table = select(self.cohort.table, self.where) if self.where else self.cohort.table
        here.resolve(table)
        labels = target_values(table, here) if here.regression else class_indices(table, here)
        renamed = dict(zip(columns, target.columns, strict=True))
        table = table.drop(columns=[c for c in target.columns if c in table and c not in renamed])
        return table.rename(columns=renamed), labels


def predict_external(run: Run, scans: ExternalScans, device: str = "cpu") -> Predicted:
    """Predict all labelled scans by all networks of ``run``.

    The cohort is the test part of a single fold, the run's own scans are its training part.

    Raises
    ------
    BadInput: subjects of the training, labels that do not fit, or no scan that passes quality
        control.
    """
    cohort, predictor = scans.cohort, Predictor(run.model_folder, device)
    check_space(cohort, predictor)
    target = predictor.target
    table, labels = scans.labelled(target)
    trained, unchecked = training_of(run)
    left_out = overlapping(table, trained, run, scans)
    keep = ~table["participant_id"].isin(left_out).to_numpy()
    rows, rejected, warnings = [], {}, []
    for place, label in track(
        list(zip(table.index[keep], labels[keep], strict=True)), "predicting"
    ):
        scan = {column: table[column][place] for column in SCAN}
        name = "_".join(filter(None, scan.values()))
        try:
            prediction = predict_prepared(predictor, cohort, int(place))
        except BadInput as error:
            rejected[name] = str(error)
            continue
        warnings += [(name, text) for text in prediction.warnings]
        if prediction.domain.inside is False:
            warnings.append((name, FOREIGN))
        rows.append({**scan, "fold": 0, "seed": 0, "part": "test"})
        if target.regression:
            rows[-1] |= {f"true_{n}": label[k] for k, n in enumerate(target.names)}
            rows[-1] |= {f"pred_{name}": value for name, value in prediction.values.items()}
        else:
            rows[-1]["true"] = target.names[label]
            rows[-1] |= {f"p_{name}": share for name, share in prediction.probabilities.items()}
        rows[-1] |= judged(prediction, label)
    if not rows:
        cause = next(iter(rejected.values()), "all of its subjects were used in training")
        raise BadInput(cohort.path, f"none of its scans can be predicted ({cause})", "check them")
    facts = {
        "cohort": cohort.path.resolve().name,
        "fingerprint": cohort.fingerprint,
        "trained_subjects": predictor.card["training"]["subjects"],
        "unlabelled": len(cohort.table) - len(table),
        "left_out": sorted(left_out),
        "rejected": rejected,
        "warnings": [f"{text} ({shorten(names)})" for text, names in grouped(warnings, len(rows))],
        "unchecked": unchecked,
        "not_calibrated": predictor.reliability.reason,
    }
    return Predicted(as_study(run, target, table, labels), pd.DataFrame(rows), facts)


def judged(prediction: Prediction, label: Any) -> dict[str, float]:
    """Class or column -> what it was before calibration, and whether it fits (1 or 0).

    ``label`` are the true values of a regression, which fit if they are in the interval.
    """
    judgement = prediction.judgement
    fits: dict[str, bool] = {}
    if judgement.fits is not None:
        fits = {name: name in judgement.fits for name in prediction.probabilities}
    for k, (name, ends) in enumerate(judgement.intervals.items()):
        fits[name] = ends is None or ends[0] <= label[k] <= ends[1]
    raw = judgement.uncalibrated or prediction.values or prediction.probabilities
    return {f"uncalibrated_{name}": value for name, value in raw.items()} | {
        f"fits_{name}": int(fit) for name, fit in fits.items()
    }


def training_of(run: Run) -> tuple[TrainingData, str]:
    """All subjects and voxels of the run's training, and what of it is not known, if anything."""
    if not run.scans_path.exists():
        facts = "names" if run.training_scans().hashes else "names and the voxels"
        return TrainingData(frozenset(), frozenset()), f"the {facts} of the training subjects"
    splits, scans = run.splits(), run.scans()
    need_column(scans, "voxel_hash", run.scans_path)
    subjects = frozenset(splits.frame["participant_id"]) - splits.subjects(0, "holdout")
    voxels = frozenset(scans.loc[scans["participant_id"].isin(subjects), "voxel_hash"])
    try:  # with their pre-training, which may have been moved
        parts = [training_data(run, fold) for fold in range(splits.folds)]
    except BadInput as error:
        return TrainingData(subjects, voxels), f"the subjects of the pre-training ({error})"
    return TrainingData(
        subjects.union(*(part.subjects for part in parts)),
        voxels.union(*(part.voxels for part in parts)),
    ), ""


def overlapping(
    table: pd.DataFrame, trained: TrainingData, run: Run, scans: ExternalScans
) -> frozenset[str]:
    """The subjects that were used in training, to be left out.

    Raises
    ------
    BadInput: there are some, and they are not to be left out.
    """
    known = run.training_scans()
    copied = table["voxel_hash"].map(lambda voxels: voxels in trained.voxels or voxels in known)
    named = table["participant_id"].isin(trained.subjects) & (scans.overlap != "other-people")
    both = frozenset(map(str, table.loc[copied | named, "participant_id"]))
    if both and scans.overlap != "leave-out":
        same = "has the same voxels as scans" if copied.any() else "has subjects named like those"
        raise BadInput(
            scans.cohort.path,
            f"{same} that {run.path} was trained on: {shorten(sorted(both))}",
            "add --overlap leave-out to test the others"
            + ("" if copied.any() else ", or other-people if the same names are other people"),
        )
    return both


def as_study(run: Run, target: Target, table: pd.DataFrame, labels: np.ndarray[Any, Any]) -> Study:
    """The cohort as test part; the run's own scans, where they are known, as training part."""
    parts = dict.fromkeys(table["participant_id"], "test")
    if not run.scans_path.exists():
        parts[TRAINED] = "train"
    else:
        own = Study.of(run.scans(), target, run.splits())
        used = ~own.scans["participant_id"].isin(own.splits.subjects(0, "holdout")).to_numpy()
        before = own.scans[used].assign(participant_id=TRAINED + own.scans["participant_id"])
        parts |= dict.fromkeys(before["participant_id"], "train")
        # A column that is empty here is no baseline.
        table = table[[name for name in table if name in SCAN or any(map(clean, table[name]))]]
        columns = [name for name in before if name in table]
        table = pd.concat([before[columns], table]).fillna("")
        labels = np.concatenate([own.labels[used], labels])
    frame = pd.DataFrame({"participant_id": list(parts), "fold-0": list(parts.values())})
    given = tuple(run.card.get("covariates", ()))
    return Study(table.reset_index(drop=True), target, labels, Splits(frame), given)
