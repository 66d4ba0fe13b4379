"""Which scans of the new site adapt which networks, and which test them: no subject does both."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from uncus.data.augment import Augment
from uncus.data.design.covariates import columns
from uncus.data.design.splits import Splits, check_leakage
from uncus.data.design.targets import Target
from uncus.data.errors import BadInput
from uncus.data.scan_dataset import ScanDataset
from uncus.data.text import counted
from uncus.models.base import Classifier
from uncus.models.build import ModelConfig, build_model
from uncus.models.weights import load_weights
from uncus.pipeline import config
from uncus.pipeline.adaptation.site import HIDDEN, Array, Site, take
from uncus.pipeline.adaptation.source import shares, source_scans
from uncus.pipeline.evaluation.external import ExternalScans, overlapping, training_of
from uncus.pipeline.prediction.trained_networks import read_grid, read_reliability
from uncus.pipeline.runs import Member, Run, members
from uncus.pipeline.training.optimization import Optimization
from uncus.pipeline.training.options import TrainingOptions
from uncus.pipeline.training.task import Devices, Task


@dataclass(frozen=True)
class Plan:
    """The adaptation of every network of a run to a new site.

    The subjects of the new site are divided into folds: as many as the run's, at least two. The
    networks of a fold are those of the run's fold, adapted to the subjects of the other folds and
    tested on its own. The labelled subjects are in no test.

    Attributes
    ----------
    run: where the networks come from.
    task: scans, folds and architecture; its labels are those of the table, to be compared with.
    shown: subjects whose labels may be seen.
    members: the adapted networks.
    weights: name of a member -> the file it starts from.
    source: scans that the run was trained on, by its fold; empty where they are not at hand.
    """

    run: Run
    task: Task
    shown: frozenset[str]
    members: tuple[Member, ...]
    weights: Mapping[str, Path]
    source: Mapping[int, ScanDataset]

    def network(self, member: Member) -> Classifier:
        """The network that a member starts from."""
        network = build_model(self.task.model)
        load_weights(network, self.weights[member.name])
        return network.eval()

    @property
    def seen(self) -> Array:
        """The label of each of the task's scans, HIDDEN where it may not be seen."""
        shown = self.task.table["participant_id"].isin(self.shown).to_numpy()
        return np.where(shown, self.task.labels, HIDDEN)

    def site(self, member: Member) -> Site:
        """The site as a member meets it; labels that may not be seen are hidden."""
        task = self.task
        rows = task.rows(member.fold, "train")
        scans = task.dataset(member.fold, "train")
        return Site(
            scans=take(scans, np.arange(len(rows)), self.seen[rows]),
            source=self.source.get(member.fold),
            shares=shares(self.run),
            calibration=read_reliability(self.run).calibration,
            batch_size=task.optimization.batch_size,
            flip=task.flip_average,
            augment=task.augment,
            spacing=task.cohort.grid.spacing,
            devices=task.devices,
            seed=member.seed + 1000 * member.fold,
        )

    def subjects(self, member: Member) -> Array:
        """The subject of each scan of :meth:`site`."""
        rows = self.task.rows(member.fold, "train")
        return self.task.table["participant_id"].iloc[rows].to_numpy(str)


def plan(
    run: Run,
    scans: ExternalScans,
    labels: int,
    seed: int,
    accelerator: str,
    source: Path | None,
    need_source: bool,
) -> Plan:
    """Plan the adaptation of ``run`` to the scans of a new site; nothing is written.

    Parameters
    ----------
    labels: subjects of each class whose labels may be seen, drawn by ``seed``.
    source: the run's cohort, where it was moved.

    Raises
    ------
    BadInput: a regression, scans on another grid, subjects of the run's training, too few subjects
        or labels, or the run's cohort is needed and not at hand.
    """
    run.verify()
    card, cohort, target = run.card, scans.cohort, run.target
    if target.regression:
        cause = f"predicts numbers ({', '.join(target.columns)})"
        raise BadInput(run.path, cause, "name a run that predicts classes")
    if (cohort.space, cohort.grid) != (card["space"], read_grid(run)):
        raise BadInput(
            cohort.path,
            "is not on the run's grid",
            f"prepare it with uncus prepare --like {run.path}",
        )
    names = tuple(card.get("covariates", {}))
    column = (scans.target or target.columns)[0]
    if column not in cohort.table and not labels and not scans.target:
        unlabelled = cohort.table.assign(**{column: ""})
        cohort = replace(cohort, table=unlabelled)
        scans = replace(scans, cohort=cohort)
    table, classes = scans.every(target)
    trained, unchecked = training_of(run)
    if unchecked:
        print(f"warning: {unchecked} are not known here: check that none is in {cohort.path}")
    left_out = overlapping(table, trained, run, scans)
    keep = ~table["participant_id"].isin(left_out).to_numpy()
    table, classes = table[keep], classes[keep]
    cells = ["", *(values[0] for values in target.classes.values())]
    table = table.assign(**{target.columns[0]: [cells[k + 1] for k in classes]})
    shown = draw(table, classes, labels, seed, target)
    known = sorted({int(member["fold"]) for member in card["members"]})
    splits = divide(cohort.path, table, shown, max(2, len(known)), seed)
    check_leakage(splits, table)
    of_fold = {
        fold: [one for one in card["members"] if one["fold"] == known[fold % len(known)]]
        for fold in range(splits.folds)
    }
    seeds = min(map(len, of_fold.values()))
    todo = members(splits.folds, int(of_fold[0][0]["seed"]), seeds)
    weights = {
        member.name: run.model_folder / of_fold[member.fold][member.seed - todo[0].seed]["file"]
        for member in todo
    }
    how, augment = trained_as(run)
    task = Task(
        cohort=cohort,
        table=table,
        labels=classes,
        covariates=columns(table, names),
        covariate_names=names,
        target=target,
        splits=splits,
        model=config.from_dict(ModelConfig, card["model"], run.card_path),
        optimization=how,
        augment=augment,
        transforms=(),
        devices=Devices(accelerator=accelerator),
        flip_average=card["flip_average"],
        init_from=run,
    )
    at_hand = source_scans(run, source, need_source)
    chosen = {fold: at_hand[known[fold % len(known)]] for fold in of_fold} if at_hand else {}
    return Plan(run, task, shown, todo, weights, chosen)


def draw(
    table: pd.DataFrame, classes: Array, count: int, seed: int, target: Target
) -> frozenset[str]:
    """``count`` subjects of each class at random; those of a smaller number are among them."""
    chosen: set[str] = set()
    rng = np.random.default_rng(seed)
    # A subject's first scan decides, should the class change.
    first = pd.Series(classes, table["participant_id"])
    first = first[first >= 0]
    first = first[~first.index.duplicated()].sort_index()
    for k, name in enumerate(target.names):
        order = rng.permutation(first.index[first == k].to_numpy(str))
        if len(order) <= count > 0:
            most, found = len(order) - 1, counted(len(order), "labelled subject")
            raise BadInput(
                f"--labels {count}",
                f"{found} of {name}, and at least one must be tested",
                f"give {most} at most" if most > 0 else "leave it out, or check --classes",
            )
        chosen |= set(order[:count].tolist())
    return frozenset(chosen)


def divide(
    cohort: Path, table: pd.DataFrame, shown: frozenset[str], folds: int, seed: int
) -> Splits:
    """Folds over the subjects that are not ``shown``, at random: labels play no part in it.

    Raises
    ------
    BadInput: the ``cohort`` has too few subjects.
    """
    subjects = sorted(set(table["participant_id"]))
    hidden = [name for name in subjects if name not in shown]
    if len(hidden) < folds or len(subjects) < 2 * folds:
        found = f"{counted(len(hidden), 'subject')} to test of {len(subjects)}"
        raise BadInput(
            cohort,
            f"{found}, and {folds} folds need {folds} of {2 * folds}",
            f"add scans{', or give fewer --labels' if shown else ''}",
        )
    order = np.random.default_rng(seed).permutation(hidden)
    fold_of = {name: k % folds for k, name in enumerate(order.tolist())}
    frame = pd.DataFrame({"participant_id": subjects}, dtype=object)
    for fold in range(folds):
        frame[f"fold-{fold}"] = [
            "test" if fold_of.get(name) == fold else "train" for name in subjects
        ]
    return Splits(frame.astype(object))


def trained_as(run: Run) -> tuple[Optimization, Augment]:
    """How the networks of ``run`` were trained; the defaults for a model without its run."""
    if not run.config_path.exists():
        return Optimization(), Augment()
    options = TrainingOptions.stored(run.path)
    return options.optimization, options.augment
