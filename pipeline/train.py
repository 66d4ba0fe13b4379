"""``uncus train``: train networks on a prepared cohort, fold by fold."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uncus import NOTICE
from uncus.data import files
from uncus.data.prepared_cohort import PreparedCohort
from uncus.pipeline.recipes import choice as recipes
from uncus.pipeline.run_files import log
from uncus.pipeline.runs import Member, Run, check_free
from uncus.pipeline.training import processes
from uncus.pipeline.training.options import TrainingOptions
from uncus.pipeline.training.parallel import Job, train_networks
from uncus.pipeline.training.run_setup import (
    begin,
    check,
    continued,
    finish,
    label_scans,
    plan,
    start,
)
from uncus.pipeline.training.task import Task, why_untrainable


def train(cohort: Path | str, out: Path | str, **options: Any) -> Path:
    """Train networks on a prepared cohort; returns the run's folder.

    Parameters
    ----------
    cohort, out: folders of the cohort and of the run.
    options: fields of :class:`Train`, which are the options of ``uncus train``.

    Raises
    ------
    ValueError: the options or the data are unsuitable (BadInput for a file or folder).
    """
    resumed = options.get("resume") and "target" not in options
    known = Train.stored(Path(out)) if resumed else Train()
    replace(known, cohort=Path(cohort), out=Path(out), **options).run()
    return Path(out)


@dataclass(frozen=True)
class Train(TrainingOptions):
    """Train networks on a prepared cohort: one for each fold and seed.

    With several folds, the run contains predictions for every scan by networks that were not
    trained on its subject.
    """

    def run(self) -> int:
        """Train every network, then complete the run; returns the exit code."""
        if self.continues and self.cohort == self.out != Path():  # uncus train RUN --resume
            return replace(self, cohort=self.stored(self.out).cohort).run()
        self.check_given("train", "RUN")
        check_free(self.out, but="a run")
        trainings = recipes.steps(self)
        if trainings != [self]:
            return self.follow(trainings)
        count = processes.process_count(self.devices)
        if count > 1 and self.jobs > 1:
            raise ValueError(
                f"--jobs {self.jobs} trains networks with one device each; leave out --devices "
                f"{self.devices.devices} and --nodes, or --jobs"
            )
        if count > 1 and not processes.started(self.devices):
            processes.start(self.train_all, count)
        else:
            self.train_all()
        return 0

    def train_all(self) -> None:
        """What :meth:`run` does, in one of perhaps several processes."""
        cohort, run = PreparedCohort.open(self.cohort), Run(self.out)

        def prepare() -> tuple[Task, tuple[Member, ...], list[Member]]:
            task = plan(self, cohort, label_scans(self, cohort))
            if reason := why_untrainable(task):
                raise ValueError(reason)
            if not self.finish:
                check(self, task)
            return task, *begin(self, cohort, task)

        with ExitStack() as held, processes.joined(self.devices) as group:
            if group.rank == 0:
                held.enter_context(log.kept(run.log_path, run.config_path.is_file))
            task, todo, left = group.share(prepare)
            train_networks([Job("", member.name, run, member, task) for member in left], self.jobs)
            if group.rank == 0 and self.only:
                done = sum(run.weights(member).exists() for member in todo)
                print(
                    f"{self.out}: {done} of {len(todo)} networks trained; once all are: uncus "
                    f"train {self.cohort} {self.out} --finish. {NOTICE}"
                )
            elif group.rank == 0:
                from uncus.pipeline.model_card import card as model_card

                finish(run, task, todo)
                model_card.write(run)
                print(
                    f"{self.out}: {len(todo)} networks trained; next: uncus evaluate {self.out}. "
                    f"{NOTICE}"
                )

    def follow(self, trainings: list["Train"]) -> int:
        """Run the trainings of a recipe; the last one is the run itself."""
        *first, last = trainings
        description = recipes.describe(trainings, asked=self.recipe != "auto")
        if last.recipe != "none":
            print(description, flush=True)
        for step in first:
            cohort, run = PreparedCohort.open(self.cohort), Run(step.out)
            if run.is_sealed() and continued(step, cohort):
                continue
            plan(step, cohort, label_scans(step, cohort))
            # Of jobs for a fold each, the first one pre-trains for all.
            with files.locked(self.out, "run", wait=-1 if self.only else 0):
                # Both at first, so that the options are there to resume by.
                for one in (step, last):
                    if not continued(one, cohort):
                        start(one, cohort)
                    log.append(Run(one.out).log_path, description)
                if not run.is_sealed():
                    step.run()
        return last.run()
