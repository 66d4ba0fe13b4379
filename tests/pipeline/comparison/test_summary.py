"""The result in sentences."""

from uncus.pipeline.comparison.summary import at_batch


def test_significant_differences_are_named() -> None:
    def cell(line: str, value: float) -> dict[str, object]:
        error = {"value": value, "low": value - 0.05, "high": value + 0.05}
        return {"line": line, "batch_size": 2, "status": "done", "metrics": {"error": error}}

    def minus(line: str, value: float) -> dict[str, object]:
        error = {"value": value, "low": value - 0.05, "high": value + 0.05}
        return {"line": line, "batch_size": 2, "error": error}

    result = {
        "metric": "error",
        "lower_is_better": True,
        "reference": "group",
        "batch_sizes": [2],
        "cells": [cell("group", 0.2), cell("instance", 0.21), cell("batch", 0.4)],
        "differences": [minus("instance", 0.01), minus("batch", 0.2)],
    }
    assert at_batch(result, 2) == (
        "At batch size 2, group has error 0.200 (0.150 to 0.250); no significant difference: "
        "instance; worse: batch by 0.200 (0.150 to 0.250)."
    )
