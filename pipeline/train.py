"""``uncus train``: train networks on a prepared cohort, fold by fold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uncus import NOTICE
from uncus.data import files
from uncus.data.prepared_cohort import PreparedCohort
from uncus.pipeline.runs import Run, members
from uncus.pipeline.training.options import TrainingOptions
from uncus.pipeline.training.parallel import Job, train_networks
from uncus.pipeline.training.run_setup import finish, label_scans, set_up


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
    Train(Path(cohort), Path(out), **options).run()
    return Path(out)


@dataclass(frozen=True)
class Train(TrainingOptions):
    """Train networks on a prepared cohort: one for each fold and seed.

    With several folds, the run contains predictions for every scan by networks that were not
    trained on its subject.
    """

    def run(self) -> int:
        """Train every network, then complete the run; returns the exit code."""
        self.check_given("train", "RUN")
        cohort, run = PreparedCohort.open(self.cohort), Run(self.out)
        with files.locked(self.out, "run"):
            task = set_up(self, cohort, label_scans(self, cohort))
            todo = members(task.splits.folds, self.seed, self.seeds)
            left = [member for member in todo if not run.weights(member).exists()]
            train_networks([Job("", member.name, run, member, task) for member in left], self.jobs)
            finish(run, task, todo)
        print(
            f"{self.out}: {len(todo)} networks trained; next: uncus evaluate {self.out}. {NOTICE}"
        )
        return 0
