"""What a robustness measurement says, in a line and as a table, for page, card and terminal."""

from collections.abc import Mapping
from typing import Any, Literal

from uncus.pipeline.rendering.numbers import estimate_text, number

Content = Mapping[str, Any]
FALL, SHARE = 0.05, 0.1
"""What counts as a loss: of an AUC, and of an error as a share of itself."""
FEWEST = 10
"""Subjects of each class below which nothing is said."""
Verdict = Literal["lost", "kept", "unknown"]
UNKNOWN: Verdict = "unknown"
AHEAD: Mapping[Verdict, str] = {
    "lost": "",
    "kept": "none up to ",
    UNKNOWN: "inconclusive up to ",
}


def tolerance(result: Content) -> float | None:
    """The largest change of the metric that is no loss; None where it is unknown."""
    value = result["plain"]["value"]
    if value is None:
        return None
    return SHARE * float(value) if result["lower_is_better"] else FALL


def verdict(result: Content, name: str) -> tuple[Verdict, Mapping[str, Any]]:
    """Whether a disturbance worsens the metric by more than that; and the mildest level of a loss,
    or the strongest level.

    It does from a level on if it does there and at all levels beyond, with intervals of the change
    that exclude 0. It does not if the intervals of all levels exclude such a loss. Neither is said
    of under 10 subjects of a class, whose resamples are too much alike.
    """
    most, sign = tolerance(result), 1 if result["lower_is_better"] else -1
    enough = result.get("fewest", FEWEST) >= FEWEST
    levels = result["disturbances"][name]["levels"]
    first, kept = len(levels), True
    for k, change in reversed(list(enumerate(row["change"] for row in levels))):
        if not enough or most is None or change["low"] is None:
            return UNKNOWN, levels[-1]
        low, high = sorted(sign * change[end] for end in ("low", "high"))
        kept &= high <= most
        if k == first - 1 and low > 0 and sign * change["value"] > most:
            first = k
    if first < len(levels):
        return "lost", levels[first]
    return "kept" if kept else UNKNOWN, levels[-1]


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
    found: dict[Verdict, list[str]] = {"lost": [], "kept": [], UNKNOWN: []}
    for name, one in result["disturbances"].items():
        how, row = verdict(result, name)
        found[how].append(one["title"] if how == UNKNOWN else at(one, row["level"]))
    lost, kept, unknown = map("; ".join, found.values())
    change = f"the {result['name']} {loss_text(result)}"
    if not lost and not kept:
        return f"It is inconclusive whether {change}."
    said = [f"T{change[1:]} {f'from: {lost}' if lost else f'at none of the levels up to: {kept}'}."]
    if lost and kept:
        said.append(f"It does not up to: {kept}.")
    if unknown:
        said.append(f"Inconclusive: {unknown}.")
    return " ".join(said)


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
    """One row a disturbance: the level of its verdict, the change there, calls that change."""
    found = []
    for name, one in result["disturbances"].items():
        how, row = verdict(result, name)
        level = AHEAD[how] + at(one, row["level"])
        calls = number(row["calls"]["value"]) if result["regression"] else percent(row["calls"])
        found.append([level, estimate_text(row["change"]), calls])
    return found


def percent(share: Content) -> str:
    """``12% (8% to 17%)``."""
    if share["value"] is None:
        return "–"
    around = "" if share["low"] is None else f" ({share['low']:.0%} to {share['high']:.0%})"
    return f"{share['value']:.0%}{around}"
