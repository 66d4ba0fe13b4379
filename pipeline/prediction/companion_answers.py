"""What other runs add to the answer of a run for the same scan: brain age, predicted volumes."""

from collections.abc import Sequence
from typing import Any

from uncus.pipeline.prediction.results import Prediction
from uncus.pipeline.trust.domain import Verdict

VOLUMES = {"hippocampus_left": 1e-3, "hippocampus_right": 1e-3, "etiv": 1.0}
"""Columns of built-in models that are volumes -> ml per unit: hippocampi in mm³, eTIV in ml."""


def added(answers: Sequence[Prediction]) -> dict[str, Any]:
    """The fields that companions add to a prediction; those of another domain add nothing."""
    valid = [one for one in answers if not one.domain.abstains]
    found: dict[str, Any] = {"predicted_volumes": {}}
    for one in valid:
        found["predicted_volumes"] |= {
            name: round(one.values[name] * ml, 3)
            for name, ml in VOLUMES.items()
            if name in one.values
        }
        if one.brain_age:
            found["brain_age"] = one.brain_age
    return found


def doubts(own: Verdict, answers: Sequence[Prediction]) -> tuple[str, ...]:
    """The companions' warnings, and why one gives no answer where the run itself does."""
    silent = [one for one in answers if one.domain.abstains and not own.abstains]
    lines = [
        f"the model {one.model['run']} gives no answer: {'; '.join(one.domain.reasons)}"
        for one in silent
    ]
    return (*(line for one in answers for line in one.warnings), *lines)
