"""The folders of runs and comparisons: the only code that knows their layout.

::

    RUN/  config.json environment.json splits.tsv scans.tsv predictions.tsv report.html report.json
          training_scans.json passport.json passport.html passport/SCAN.json train.log
          robustness.json robustness.html robustness/SCAN.json
          audit.html audit.json certificate.json MODEL_CARD.md
          fold-K/  metrics.csv predictions.tsv tensorboard/
                   checkpoints/last.ckpt checkpoints/best.safetensors
          model/   card.json fold-K.safetensors reference.safetensors domain.safetensors SHA256SUMS

    COMPARISON/  config.json compare.json table.tsv METRIC.svg index.html dynamics/
                 cells/CELL/  folds/  pretrained/CELL/   each a run

A packed model has its MODEL_CARD.md, report.json and scores.json beside ``model/``.
``external/COHORT/`` has predictions.tsv and the reports on another cohort, ``pretraining/`` is the
run that a recipe starts from. With several seeds a member's folder and weights are called
``fold-K_seed-S``. ``model/`` alone is all that a prediction needs; it contains no pickle, nothing
of a single subject, and a SHA-256 of every file. The card has those of the tables that an
evaluation reads, and of what is known of training subjects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from uncus.data import files
from uncus.data.design.splits import Splits
from uncus.data.design.targets import Target
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import MANIFEST, PreparedCohort
from uncus.data.tables import read_table
from uncus.pipeline.run_files import card_schema, seal
from uncus.pipeline.run_files.contents import (
    RESTORE,
    finished_table,
    numbers_of,
    read_object,
    with_numbers,
)
from uncus.pipeline.run_files.passport import Verdicts
from uncus.pipeline.run_files.training_scans import TrainingScans

SCHEMA = 1
"""Version of the layout and of ``card.json``; a newer one is refused."""
CARD, COMPARISON = "model/card.json", "compare.json"
"""Files that a finished run and a finished comparison are known by."""
COPY = "copy the whole model folder again"


@dataclass(frozen=True)
class Member:
    """One network of a run: a fold and a seed."""

    fold: int
    seed: int
    name: str


def members(folds: int, seed: int, seeds: int) -> tuple[Member, ...]:
    """The networks of a run, seed by seed within each fold."""
    return tuple(
        Member(fold, seed + s, f"fold-{fold}" if seeds == 1 else f"fold-{fold}_seed-{seed + s}")
        for fold in range(folds)
        for s in range(seeds)
    )


def choose(todo: Sequence[Member], only: Sequence[str]) -> list[Member]:
    """The members of the folds and seeds that ``--only`` names; all of either where none is named.

    Parameters
    ----------
    only: such as ``fold-2`` and ``seed-0``, or ``fold-2_seed-0``.

    Raises
    ------
    ValueError: the run has no such fold or seed.
    """
    names = {name for text in only for name in text.split("_")}
    folds = dict.fromkeys(f"fold-{member.fold}" for member in todo)
    seeds = dict.fromkeys(f"seed-{member.seed}" for member in todo)
    for name in sorted(names - folds.keys() - seeds.keys()):
        raise ValueError(f"--only {name}: must be of {', '.join([*folds, *seeds])}")
    some_folds, some_seeds = names & folds.keys() or folds, names & seeds.keys() or seeds
    return [
        member
        for member in todo
        if f"fold-{member.fold}" in some_folds and f"seed-{member.seed}" in some_seeds
    ]


class Run:
    """A run folder, or its model folder alone, which is enough for predictions.

    Reading a file that is missing or damaged raises BadInput.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        model = self.path / "model"
        if (self.path / "card.json").is_file() and not model.exists():
            # The model folder itself was named: in its run, or shared without it.
            model, run = self.path, self.path.resolve().parent
            self.path = run if (run / "config.json").is_file() else self.path
        self.config_path = self.path / "config.json"
        self.environment_path = self.path / "environment.json"
        self.log_path = self.path / "train.log"
        self.splits_path = self.path / "splits.tsv"
        self.scans_path = self.path / "scans.tsv"
        self.predictions_path = self.path / "predictions.tsv"
        self.scores_path = self.path / "scores.json"
        """Out-of-fold scores as a histogram, of a packed model."""
        self.report_path = self.path / "report.json"
        self.report_page = self.path / "report.html"
        self.audit_path = self.path / "audit.json"
        self.audit_page = self.path / "audit.html"
        self.model_folder = model
        """All that a prediction needs."""
        self.card_path = self.model_folder / "card.json"
        self.reference_path = self.model_folder / "reference.safetensors"
        self.domain_path = self.model_folder / "domain.safetensors"
        self.training_scans_path = self.path / "training_scans.json"
        self.certificate_path = self.path / "certificate.json"
        self.passport_path = self.path / "passport.json"
        self.passport_page = self.path / "passport.html"
        self.robustness_path = self.path / "robustness.json"
        self.robustness_page = self.path / "robustness.html"
        self.model_card_path = self.path / "MODEL_CARD.md"
        self.seal_path = self.model_folder / "SHA256SUMS"

    # Before training

    @cached_property
    def config(self) -> dict[str, Any]:
        """The training verb's options, as saved."""
        return read_object(self.config_path)

    @property
    def environment(self) -> dict[str, Any]:
        """Versions and devices at the start, and the cohort's fingerprint."""
        return read_object(self.environment_path)

    @property
    def is_adapted(self) -> bool:
        """Whether ``uncus adapt`` made the run, or is making it."""
        return self.environment_path.exists() and "adapted" in self.environment

    @property
    def target(self) -> Target:
        """What the run predicts."""
        try:
            return Target.from_dict(self.card["target"])
        except BadInput as error:
            raise BadInput(self.card_path, f"its target: {error.cause}", COPY) from error

    def cohort(self, moved: Path | None = None) -> PreparedCohort:
        """The prepared cohort of the run, where it was or was ``moved`` to.

        Raises
        ------
        BadInput: it is not there, or is another cohort.
        """
        there = moved or Path(str(self.config.get("cohort", "")))
        if not moved and not (there / MANIFEST).is_file():
            raise BadInput(there, "is no longer the cohort of the run", "name it with --cohort")
        cohort = PreparedCohort.open(there)
        if cohort.fingerprint != self.card["cohort_fingerprint"]:
            cause = f"is not the cohort that {self.path} was trained on"
            raise BadInput(there, cause, "name that one with --cohort")
        return cohort

    def splits(self) -> Splits:
        """The subjects of the training, validation and test parts, fold by fold."""
        return Splits.load(self.splits_path)

    def scans(self) -> pd.DataFrame:
        """The scans used, one a row, with every field of the cohort as a string."""
        return finished_table(self.scans_path)

    @property
    def pretraining(self) -> "Run":
        """The pre-training that a recipe starts the run from."""
        return Run(self.path / "pretraining")

    # Of each member

    def member_folder(self, member: Member) -> Path:
        """Where a member keeps its checkpoints, metrics and predictions."""
        return self.path / member.name

    def checkpoint(self, member: Member) -> Path:
        """The state from which an interrupted member resumes."""
        return self.member_folder(member) / "checkpoints" / "last.ckpt"

    def best_weights(self, member: Member) -> Path:
        """The weights with the best validation score so far."""
        return self.member_folder(member) / "checkpoints" / "best.safetensors"

    def weights(self, member: Member) -> Path:
        """The member's final weights; they exist once it is trained."""
        return self.model_folder / f"{member.name}.safetensors"

    def passport_case(self, scan: str) -> Path:
        """What the check of the saliency methods measured on one scan."""
        return self.path / "passport" / f"{scan}.json"

    def disturbed_case(self, scan: str) -> Path:
        """The networks' outputs for one scan, undisturbed and disturbed."""
        return self.path / "robustness" / f"{scan}.json"

    @property
    def shuffled(self) -> "Run":
        """A network trained on shuffled labels, to compare saliency maps with."""
        return Run(self.path / "passport" / "shuffled")

    @property
    def failure_path(self) -> Path:
        """Why a cell of a comparison could not be trained, for the job that completes it."""
        return self.path / "failure.txt"

    def tensorboard(self, member: Member) -> Path:
        """TensorBoard's log of the member."""
        return self.member_folder(member) / "tensorboard"

    def metrics(self, member: Member) -> Path:
        """One row an epoch."""
        return self.member_folder(member) / "metrics.csv"

    def member_predictions(self, member: Member) -> Path:
        """The member's predictions on its test and holdout scans."""
        return self.member_folder(member) / "predictions.tsv"

    def training_curves(self) -> dict[str, pd.DataFrame]:
        """Member name -> its metrics, one row an epoch."""
        paths = sorted(self.path.glob("fold-*/metrics.csv"))
        return {path.parent.name: pd.read_csv(path) for path in paths}

    def training_seconds(self) -> float:
        """How long the members were trained so far, all together."""
        paths = sorted(self.path.glob("fold-*/metrics.csv"))
        return float(sum(numbers_of(read_table(path), "seconds", path).sum() for path in paths))

    def is_begun(self) -> bool:
        """Whether an epoch of any member is trained, or being trained by another process."""
        if any(files.is_locked(path.parent) for path in self.path.glob("fold-*/.lock")):
            return True
        patterns = ("fold-*/checkpoints/last.ckpt", "model/fold-*.safetensors")
        return any(any(self.path.glob(pattern)) for pattern in patterns)

    # When all members are trained

    def predictions(self) -> pd.DataFrame:
        """Out-of-fold and holdout predictions of every member, one row (scan, fold, seed)."""
        return with_numbers(finished_table(self.predictions_path), self.predictions_path)

    def predictions_so_far(self, todo: Sequence[Member]) -> pd.DataFrame | None:
        """Those of the seeds of ``todo`` that are trained in every fold; None without one."""
        missing = {m.seed for m in todo if not self.weights(m).exists()}
        paths = [self.member_predictions(m) for m in todo if m.seed not in missing]
        tables = [with_numbers(finished_table(path), path) for path in paths]
        return pd.concat(tables, ignore_index=True) if tables else None

    def external(self, cohort: str) -> "Run":
        """Where the predictions and the report on another cohort are kept."""
        return Run(self.path / "external" / cohort)

    def externals(self) -> dict[str, "Run"]:
        """Name -> the evaluations on other cohorts that are there."""
        found = sorted((self.path / "external").glob("*/report.json"))
        return {path.parent.name: Run(path.parent) for path in found}

    def audit(self) -> dict[str, Any] | None:
        """What ``uncus audit`` found; None for a run that is not audited."""
        return read_object(self.audit_path) if self.audit_path.exists() else None

    def robustness(self) -> dict[str, Any] | None:
        """What ``uncus evaluate --robust`` measured; None for a run without."""
        return read_object(self.robustness_path) if self.robustness_path.exists() else None

    def report(self) -> dict[str, Any]:
        """What ``uncus evaluate`` measured."""
        return read_object(self.report_path)

    def passport(self) -> dict[str, Any] | None:
        """What ``uncus explain --check`` measured; None for a run that was not checked."""
        return read_object(self.passport_path) if self.passport_path.exists() else None

    def verdicts(self) -> Verdicts:
        """Which saliency methods passed the check of this run; none where it was not checked.

        Raises
        ------
        BadInput: a damaged passport.
        """
        passport = self.passport()
        if passport is None:
            return Verdicts()
        try:
            return Verdicts.of(passport, self.weights_sums())
        except BadInput:
            raise
        except ValueError as error:
            cause, remedy = f"is not a passport: {error}", "delete it, or check the run again"
            raise BadInput(self.passport_path, cause, remedy) from error

    def weights_sums(self) -> dict[str, str]:
        """Name -> SHA-256 of the weights of each network, "" where an early card has none."""
        return {member["file"]: member.get("sha256", "") for member in self.card["members"]}

    @cached_property
    def card(self) -> dict[str, Any]:
        """The model card, as data; one of a newer schema, or not of its schema, is refused."""
        path = self.card_path
        if not path.exists():
            unfinished = self.config_path.exists()
            if self.is_adapted:
                cause, remedy = "its adaptation is not finished", "continue it with uncus adapt"
            elif unfinished:
                cause, remedy = "training is not finished", "continue it with uncus train --resume"
            else:
                cause, remedy = "is not a run", "name a folder that uncus train wrote"
            raise BadInput(self.path, cause, remedy)
        if seal.plain_file(path, COPY).stat().st_size > card_schema.MAX_BYTES:
            raise BadInput(path, f"over {card_schema.MAX_BYTES >> 20} MB", COPY)
        card = files.read_json(path)
        if not isinstance(card, dict) or not isinstance(card.get("schema"), int):
            raise BadInput(path, "is not a model card", "restore the run's model folder")
        if card["schema"] > SCHEMA:
            raise BadInput(
                path, f"schema {card['schema']} is newer than {SCHEMA}", "update uncus to read it"
            )
        if fault := card_schema.fault(card):
            raise BadInput(path, f"is not a model card: {fault}", COPY)
        return card

    def seal(self) -> None:
        """Write the SHA-256 of every file of the model; from then on it is complete."""
        names = {p.name for p in self.model_folder.iterdir() if not p.name.startswith(".")}
        seal.write(self.seal_path, names - {self.seal_path.name})

    def is_sealed(self) -> bool:
        """Whether training is complete."""
        return self.seal_path.exists()

    def changed(self) -> int:
        """When the model was sealed (ns), a key for caches; raises OSError where it is not."""
        return self.seal_path.stat().st_mtime_ns

    def verify(self) -> dict[str, str]:
        """Name -> SHA-256 of the model's files.

        Raises
        ------
        BadInput: a file differs from its seal, is not sealed, or is a link; the card is not one.
        """
        if not self.card_path.exists():
            _ = self.card  # raises with the reason
        if not self.seal_path.exists():
            verb = "uncus adapt" if self.is_adapted else "uncus train --resume"
            raise BadInput(self.seal_path, "is missing", f"finish the run with {verb}")
        sums = seal.verify(self.seal_path, COPY)
        weights = [member["file"] for member in self.card["members"]]
        domain = [self.domain_path.name] if "limits" in self.card.get("domain", {}) else []
        for name in (self.card_path.name, self.reference_path.name, *domain, *weights):
            if name not in sums:
                raise BadInput(self.seal_path, f"does not list {name}", COPY)
        return sums

    @property
    def results(self) -> tuple[Path, ...]:
        """The tables that an evaluation reads; the model card has their SHA-256."""
        return self.splits_path, self.scans_path, self.predictions_path

    @property
    def about_subjects(self) -> tuple[Path, ...]:
        """What is known of single training subjects: not needed for a prediction, nor shared."""
        return self.training_scans_path, self.certificate_path

    def sealed(self, path: Path) -> Path | None:
        """One of :attr:`about_subjects`, verified; None where it was taken away.

        Early versions kept them in the model folder. Raises BadInput for a changed file.
        """
        sums = self.card.get("results")
        if sums is None:
            path = self.model_folder / path.name  # verified with the model
        if not path.exists():
            return None
        if sums is not None:
            seal.check(path, sums.get(path.name), self.card_path.name, "restore it, or delete it")
        return path

    def training_scans(self) -> TrainingScans:
        """The scans that the run was trained on; none where they are not known."""
        if path := self.sealed(self.training_scans_path):
            return TrainingScans.read(path)
        return TrainingScans("", frozenset(map(str, self.card["training"].get("voxel_hashes", ()))))

    def verify_results(self) -> str:
        """Verify the model and the tables of results; returns a warning if those are not sealed.

        Raises
        ------
        BadInput: as :meth:`verify`, or a table that is missing or changed.
        """
        self.verify()
        sums = self.card.get("results")
        if sums is None:
            return f"{self.path}: an earlier version made it, its results have no SHA-256"
        for path in self.results:
            seal.check(path, sums.get(path.name), self.card_path.name, RESTORE)
        return ""


class Comparison:
    """The folder of ``uncus compare``."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.config_path = self.path / "config.json"
        self.results_path = self.path / COMPARISON
        self.table_path = self.path / "table.tsv"
        self.cells_path = self.path / "cells"
        self.page = self.path / "index.html"
        self.folds = Run(self.path / "folds")
        """The folds that pre-training and training share."""
        self.all_subjects_path = self.folds.path / "everybody.tsv"

    def cell(self, name: str) -> Run:
        """The run of a cell."""
        return Run(self.cells_path / name)

    def pretrained(self, name: str) -> Run:
        """The run that a cell starts from."""
        return Run(self.path / "pretrained" / name)

    def plot(self, metric: str) -> Path:
        """A metric against the batch size."""
        return self.path / f"{metric}.svg"

    def dynamics(self, name: str) -> Path:
        """One measurement of the training dynamics."""
        return self.path / "dynamics" / f"{name}.json"


def held(folder: Path) -> str:
    """What a folder has already: "a prepared cohort", "a comparison" or "a run"; "" otherwise."""
    run, comparison = Run(folder), Comparison(folder)
    if (folder / MANIFEST).is_file():
        return "a prepared cohort"
    if comparison.results_path.exists() or comparison.cells_path.is_dir():
        return "a comparison"
    return "a run" if run.environment_path.exists() or run.card_path.exists() else ""


def check_free(folder: Path, but: str = "") -> None:
    """Raise BadInput for a folder that has results of another kind than ``but``."""
    if (kind := held(folder)) not in ("", but):
        raise BadInput(folder, f"is {kind}", "choose another folder")


def find_runs(folder: Path) -> list[Path]:
    """Finished runs in ``folder`` and a few folders below it, by name."""
    return find(folder, CARD, without=COMPARISON)


def find_comparisons(folder: Path) -> list[Path]:
    """Comparisons of norms in ``folder`` and a few folders below it, by name."""
    return find(folder, COMPARISON)


def find(folder: Path, marker: str, depth: int = 3, without: str = "") -> list[Path]:
    """Folders that contain the file ``marker``, up to ``depth`` folders below ``folder``.

    A folder that contains the file ``without`` (a comparison and its many runs) is left out.
    """
    if (folder / marker).exists():
        return [folder]
    if depth == 0 or not folder.is_dir():
        return []
    below = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[:1] != ".")
    below = [path for path in below if not (without and (path / without).exists())]
    return [match for path in below for match in find(path, marker, depth - 1, without)]
