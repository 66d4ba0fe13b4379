"""Two runs compared on the scans that both predicted."""

from typing import Any

import numpy as np
import pandas as pd

from uncus.data.errors import BadInput
from uncus.pipeline.evaluation.measurement import measure_part
from uncus.pipeline.evaluation.predictions import SCAN, Outputs, Predicted, model_outputs

OTHER = "other"


def compare(ours: Predicted, theirs: Predicted, name: str, draws: int, seed: int) -> dict[str, Any]:
    """Metrics of two runs on the test scans of both, and their paired differences with intervals.

    The same resamples of subjects serve both, so that what makes a subject difficult for either
    cancels out. The runs may have other folds, since each scan was tested by networks that were not
    trained on its subject.

    Parameters
    ----------
    name: what the second run is called.

    Returns
    -------
    "run", "counts", "metrics" of the first run, "other" of the second, "differences" (first minus
    second).

    Raises
    ------
    BadInput: other targets or labels, or no scan in common.
    """
    one, two = ours.study.target, theirs.study.target
    if (one.names, one.regression) != (two.names, two.regression):
        raise BadInput(
            f"--against {name}",
            f"it predicts {', '.join(two.names)}, not {', '.join(one.names)}",
            "name a run with the same target",
        )
    first, second = tested(ours), tested(theirs)
    positions = pd.MultiIndex.from_frame(second.rows[SCAN]).get_indexer(
        pd.MultiIndex.from_frame(first.rows[SCAN])
    )
    common = positions >= 0
    if not common.any():
        raise BadInput(f"--against {name}", "has no scan in common", "name a run on the same scans")
    first, positions = first.take(common), positions[common]
    labels = second.labels[positions]
    if not np.isclose(first.labels, labels, rtol=1e-4, equal_nan=True).all():
        raise BadInput(
            f"--against {name}",
            "labels the same scans otherwise",
            "name a run with the same labels",
        )
    values = {"model": first.values["model"], OTHER: second.values["model"][positions]}
    measured = measure_part(ours.study, Outputs(first.rows, first.labels, values), draws, seed)
    return {
        "run": name,
        "counts": measured["counts"],
        "metrics": measured["metrics"],
        "other": measured["baselines"][OTHER],
        "differences": measured["differences"][OTHER],
    }


def tested(run: Predicted) -> Outputs:
    """The labelled test scans with their outputs."""
    outputs = model_outputs(run.study, run.predictions).pooled("test")
    return outputs.take(outputs.labelled)
