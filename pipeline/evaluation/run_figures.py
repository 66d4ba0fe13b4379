"""The figures of a run's evaluation, for pages that show several runs side by side."""

from uncus.pipeline.evaluation import plots
from uncus.pipeline.evaluation.predictions import Study, model_answers
from uncus.pipeline.runs import Run


def figures(run: Run) -> dict[str, str]:
    """Title -> SVG: ROC and calibration (or predicted against true), and the training's course."""
    study = Study.of(run.scans(), run.target, run.splits())
    answers = model_answers(study, run.predictions()).pooled("test")
    answers = answers.take(answers.labelled)
    names, model = study.target.names, answers.said["model"]
    drawn = {}
    if study.target.regression:
        for k, name in enumerate(names):
            drawn[name] = plots.scatter(answers.labels[:, k], model[:, k], name)
    else:
        drawn["ROC"] = plots.roc(answers.labels, answers.said, names)
        drawn["Calibration"] = plots.calibration(answers.labels, model, names)
    drawn["Training"] = plots.training(run.training_curves())
    return {title: figure for title, figure in drawn.items() if figure}
