"""What a robustness measurement says, in a line and as a table, for page, card and terminal."""

from collections.abc import Mapping
from typing import Any

from uncus.pipeline.rendering.numbers import estimate_text, number

Content = Mapping[str, Any]
FALL, SHARE = 0.05, 0.1
"""What counts as a loss: of an AUC, and of an error as a share of itself."""


def tolerance(result: Content) -> float | None:
    """The largest change of the metric that is no loss; None where it is unknown."""
    value = result["plain"]["value"]
    if not result["lower_is_better"]:
        return FALL
    return None if value is None else SHARE * float(value)


def first_loss(result: Content, name: str) -> Mapping[str, Any] | None:
    """The mildest level of a disturbance at which the metric is worse by more than that."""
    most, sign = tolerance(result), 1 if result["lower_is_better"] else -1
    for row in result["disturbances"][name]["levels"]:
        change = row["change"]["value"]
        if most is not None and change is not None and sign * change > most:
            return dict(row)
    return None


def at(one: Content, level: float) -> str:
    """``blur 4 mm``."""
    return f"{one['title']} {level:g}{'' if one['unit'] == '%' else ' '}{one['unit']}"


def loss_text(result: Content) -> str:
    """``falls by more than 0.05``."""
    if not result["lower_is_better"]:
        return f"falls by more than {FALL:g}"
    return f"rises by more than {SHARE:.0%} of itself"


def headline(result: Content) -> str:
    """From which level of each disturbance the metric is worse, in a sentence or two."""
    if result["plain"]["value"] is None:
        return f"The {result['name']} of these scans cannot be measured."
    lost, kept = [], []
    for name, one in result["disturbances"].items():
        if row := first_loss(result, name):
            lost.append(at(one, row["level"]))
        else:
            kept.append(at(one, one["levels"][-1]["level"]))
    what = f"The {result['name']} {loss_text(result)}"
    if not lost:
        return f"{what} at none of the levels up to: {'; '.join(kept)}."
    rest = f" It does not up to: {'; '.join(kept)}." if kept else ""
    return f"{what} from: {'; '.join(lost)}.{rest}"


def head(result: Content) -> list[str]:
    """The columns of :func:`rows`."""
    calls = "mean change of the value" if result["regression"] else "calls that change"
    return ["disturbance", result["name"], "change", calls]


def rows(result: Content) -> list[list[str]]:
    """One row a level."""
    found = [["none", estimate_text(result["plain"]), "", ""]]
    for one in result["disturbances"].values():
        for row in one["levels"]:
            calls = row["calls"]
            share = number(calls["value"]) if result["regression"] else percent(calls)
            cells = [estimate_text(row), estimate_text(row["change"]), share]
            found.append([at(one, row["level"]), *cells])
    return found


def first_losses(result: Content) -> list[list[str]]:
    """One row a disturbance: the level of the first loss, the change there, calls that change."""
    found = []
    for name, one in result["disturbances"].items():
        row = first_loss(result, name)
        shown = row or one["levels"][-1]
        level = at(one, shown["level"])
        level = level if row else f"none up to {level}"
        calls = number(shown["calls"]["value"]) if result["regression"] else percent(shown["calls"])
        found.append([level, estimate_text(shown["change"]), calls])
    return found


def percent(share: Content) -> str:
    """``12% (8% to 17%)``."""
    if share["value"] is None:
        return "–"
    around = "" if share["low"] is None else f" ({share['low']:.0%} to {share['high']:.0%})"
    return f"{share['value']:.0%}{around}"
