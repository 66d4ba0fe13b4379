"""Numbers as text, the same on every page and on the terminal."""

from collections.abc import Mapping

Estimate = Mapping[str, float | None]
"""A value with its confidence interval: "value", "low" and "high"."""


def number(value: float | None) -> str:
    """Three decimals for shares, fewer for large values, a dash for None."""
    if value is None:
        return "–"
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return fixed(value, digits)


def fixed(value: float, digits: int) -> str:
    """A fixed number of decimals, with a true minus sign, and none before a zero."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−" if float(text) else "")


def interval_text(estimate: Estimate, digits: int | None = None) -> str:
    """``0.730 to 0.870``; empty without an interval."""
    if estimate["low"] is None or estimate["high"] is None:
        return ""
    if digits is not None and abs(estimate["high"]) < 10:
        return f"{fixed(estimate['low'], digits)} to {fixed(estimate['high'], digits)}"
    return f"{number(estimate['low'])} to {number(estimate['high'])}"


def estimate_text(estimate: Estimate) -> str:
    """``0.801 (0.730 to 0.870)``."""
    interval = interval_text(estimate)
    return number(estimate["value"]) + (f" ({interval})" if interval else "")
