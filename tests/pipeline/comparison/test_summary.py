"""The result in sentences."""

from typing import Any

from uncus.pipeline.comparison.summary import at_batch, plain_summary


def test_verdicts_are_named() -> None:
    def cell(line: str, value: float) -> dict[str, object]:
        error = {"value": value, "low": value - 0.05, "high": value + 0.05}
        return {"line": line, "batch_size": 2, "status": "done", "metrics": {"error": error}}

    def minus(line: str, value: float, verdict: str) -> dict[str, object]:
        error = {"value": value, "low": value - 0.05, "high": value + 0.05, "detectable": 0.08}
        return {"line": line, "batch_size": 2, "error": {**error, "verdict": verdict}}

    result = {
        "metric": "error",
        "lower_is_better": True,
        "effect": 0.03,
        "reference": "group",
        "batch_sizes": [2],
        "cells": [cell("group", 0.2), cell("instance", 0.21), cell("batch", 0.4)],
        "differences": [
            minus("instance", 0.01, "inconclusive"),
            minus("layer", 0.0, "equal"),
            minus("batch", 0.2, "worse"),
        ],
    }
    assert at_batch(result, 2) == (
        "At batch size 2, group has error 0.200 (0.150 to 0.250); worse: batch by 0.200 (0.150 to "
        "0.250); equal within 0.030: layer; inconclusive: instance (0.080 could have been seen)."
    )
    # No error differs by more than that of a constant prediction.
    result["chance"] = {"error": 0.08}
    assert "inconclusive: instance (none could have been seen)." in at_batch(result, 2)
    result["cells"][0]["status"] = "waiting"
    assert at_batch(result, 2) == "At batch size 2, the reference, group, is not trained yet."


def interval(value: float, half: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def balanced(**accuracies: float) -> dict[str, Any]:
    """A comparison at batch size 2 with these balanced accuracies; most scans are of one class."""
    cells = [
        {
            "line": line,
            "batch_size": 2,
            "status": "done",
            "metrics": {"error": interval(0.2), "balanced_accuracy": interval(accuracy)},
        }
        for line, accuracy in accuracies.items()
    ]
    return {
        "metric": "error",
        "lower_is_better": True,
        "effect": 0.03,
        "reference": next(iter(accuracies)),
        "batch_sizes": [2],
        "chance": {"error": 0.2, "balanced_accuracy": 0.5},
        "cells": cells,
        "differences": [],
    }


def test_the_headline_says_where_nothing_was_learned() -> None:
    sentence = (
        "At batch size 2, nothing was shown to be learned: balanced accuracy is not above chance "
        "(0.500) for certain: group 0.520 (0.470 to 0.570), batch 0.500 (0.450 to 0.550)."
    )
    result = balanced(group=0.52, batch=0.5)
    assert at_batch(result, 2) == plain_summary(result) == sentence
    assert "nothing" not in at_batch(balanced(group=0.8, batch=0.7), 2)
    assert at_batch(balanced(group=0.8, batch=0.5), 2) == (
        "At batch size 2, group has error 0.200 (0.150 to 0.250); "
        "not shown to be above chance: batch."
    )


def test_a_regression_is_at_chance_where_it_explains_nothing() -> None:
    result = balanced(group=0.0)
    result["cells"][0]["metrics"] = {"mae": interval(5.0), "r2": interval(0.01)}
    result |= {"metric": "mae", "chance": {"mae": 5.0, "r2": 0.0}}
    assert "R² is not above chance (0.000) for certain: group 0.010" in at_batch(result, 2)
