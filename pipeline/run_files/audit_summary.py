"""An audit in one line."""

from collections.abc import Sequence
from typing import Any


def summary(findings: Sequence[dict[str, Any]]) -> str:
    """An audit in one line, from the findings of audit.json."""
    by = {status: [f for f in findings if f["status"] == status] for status in ("fault", "note")}
    done = sum(f["status"] != "not checked" for f in findings)
    left = f", {len(findings) - done} more not made" if done < len(findings) else ""
    made = f"{done} check{'s' * (done != 1)}"
    if by["fault"]:
        named = "; ".join(f["title"].lower() for f in by["fault"])
        many = len(by["fault"])
        return f"{many} fault{'s' * (many > 1)} in {made}{left}: {named}"
    notes = len(by["note"])
    more = f", {notes} note{'s' * (notes > 1)}" if notes else ""
    return f"no fault in {made}{more}{left}"
