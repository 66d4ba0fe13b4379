"""What a run fitted, and on whom: anything but training subjects would make it optimistic."""

from uncus.data.text import shorten
from uncus.pipeline.audit.evidence import Evidence
from uncus.pipeline.audit.finding import Finding, Status
from uncus.pipeline.training.options import TrainingOptions
from uncus.pipeline.training.task import MIN_VALIDATION

TITLE = "Fitted outside training"
ON_TESTED = {
    "calibration": "the calibration",
    "conformal": "the thresholds of conformal sets or intervals",
    "limits": "the limits of the domain (without labels)",
}
"""Key of card.json, or of its domain -> what is fitted on out-of-fold predictions."""


def check(evidence: Evidence) -> list[Finding]:
    """Go through all that is fitted by a run; nothing for a cohort."""
    run = evidence.run
    if run is None:
        text = "Preparing fits nothing to labels or to other scans; audit a run for the rest."
        return [Finding("fitted", TITLE, "passed", text)]
    if not run.config_path.exists():
        return [Finding("fitted", TITLE, "not checked", "The run has no config.json.")]
    options = TrainingOptions.stored(run.path)
    how = options.optimization
    on_training = ["the weights"]
    if options.covariates:
        on_training.append("mean and spread of the covariates")
    if options.regression:
        on_training.append("mean and spread of the target")
    if how.refit_head:
        on_training.append("the exactly fitted head")
    parts = [
        f"On each fold's training subjects alone: {shorten(on_training, None)}.",
        "Each scan is normalized by itself. The statistics that new scans are compared with are "
        "of all subjects but the holdout, without labels.",
    ]
    on_tested = ON_TESTED.keys() & (run.card.keys() | run.card.get("domain", {}).keys())
    if on_tested:
        named = shorten([name for key, name in ON_TESTED.items() if key in on_tested], None)
        parts.append(
            f"On the predictions for all tested subjects: {named}. So the report measures these on "
            "subjects that they were not fitted on."
        )
    if options.validation and (how.keep == "best" or how.patience):
        parts.append(
            f"Where a fold has {MIN_VALIDATION} validation subjects or more, they chose the epoch; "
            "they are not tested."
        )
    unknown = []
    if evidence.run and options.transforms:
        unknown.append(f"own code ({shorten(list(options.transforms))})")
    if options.init_from and options.init_from.suffix:
        unknown.append(f"the weights of {options.init_from.name}")
    if unknown:
        parts.append(f"Not known is what these were fitted on: {shorten(unknown, None)}.")
    status: Status = "note" if unknown else "passed"
    return [Finding("fitted", TITLE, status, " ".join(parts), {"unknown": unknown})]
