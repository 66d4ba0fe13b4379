"""The figures of a run's evaluation, for pages that show several runs side by side."""

from contextlib import suppress

from uncus.pipeline.evaluation import plots
from uncus.pipeline.evaluation.predictions import Study, model_outputs
from uncus.pipeline.runs import Run
from uncus.pipeline.trust.nested import Nested
from uncus.pipeline.trust.out_of_fold import OutOfFold


def figures(run: Run) -> dict[str, str]:
    """Title -> SVG: ROC and calibration (or predicted against true), and training curves."""
    run.verify_results()
    study = Study.of(run.scans(), run.target, run.splits())
    outputs = model_outputs(study, run.predictions(), run.predictions_path).pooled("test")
    outputs = outputs.take(outputs.labelled)
    names, model = study.target.names, outputs.values["model"]
    drawn = {}
    if study.target.regression:
        for k, name in enumerate(names):
            drawn[name] = plots.scatter(outputs.labels[:, k], model[:, k], name)
    else:
        drawn["ROC"] = plots.roc(outputs.labels, outputs.values, names)
        drawn["Calibration"] = plots.calibration(outputs.labels, model, names)
        with suppress(ValueError):  # too few subjects
            nested = Nested.of(OutOfFold.of(run.predictions(), run.target))
            known = nested.known
            drawn["Before calibration"] = drawn.pop("Calibration")
            drawn["After calibration"] = plots.calibration(
                known.labels, nested.calibrated, names, "after calibration"
            )
    drawn["Training"] = plots.training(run.training_curves())
    return {title: figure for title, figure in drawn.items() if figure}
