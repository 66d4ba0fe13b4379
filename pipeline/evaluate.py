"""``uncus evaluate``: metrics with intervals, compared with baselines on the same folds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from uncus import NOTICE
from uncus.data import files
from uncus.pipeline.evaluation.assessment import assess
from uncus.pipeline.evaluation.predictions import Study
from uncus.pipeline.runs import Run


@dataclass(frozen=True)
class Evaluate:
    """Measure a run on its held-out scans; writes report.json and report.html."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = Path()
    """Folder written by uncus train."""
    baseline: tuple[str, ...] = ()
    """Columns to predict from instead of the image: each alone, and all of them together."""
    draws: int = 2000
    """Resamples of subjects for the intervals."""
    seed: int = 0
    """Seed of the resamples."""

    def __post_init__(self) -> None:
        if self.draws < 100:
            raise ValueError(f"draws={self.draws}: must be at least 100")

    def run(self) -> int:
        """Measure, write and print; returns the exit code."""
        from uncus.pipeline.evaluation import report, terminal

        if self.run_folder == Path():
            raise ValueError("RUN is missing; uncus evaluate RUN")
        run = Run(self.run_folder)
        study = Study.of(run.scans(), run.target, run.splits())
        result = assess(study, run.predictions(), self.baseline, self.draws, self.seed)
        name = run.path.resolve().name
        files.write_json(run.report_path, result.report)
        files.write_text(run.report_page, report.page(name, result, run.training_curves()))
        terminal.show(name, result.report)
        print(f"{run.report_page}. {NOTICE}")
        return 0


def evaluate(run: Path | str, **options: Any) -> dict[str, Any]:
    """Evaluate a run and write its report; returns the contents of its report.json.

    Parameters
    ----------
    run: folder of the run.
    options: fields of :class:`Evaluate`, which are the options of ``uncus evaluate``.

    Raises
    ------
    ValueError: unknown options or baselines, or a run that is not finished (BadInput).
    """
    Evaluate(Path(run), **options).run()
    return Run(Path(run)).report()
