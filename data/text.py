"""Text for messages: short, in natural order, harmless."""

import re
import unicodedata


def printable(name: str, longest: int = 80) -> str:
    """A stranger's text for a message: no control or direction characters, not too long."""
    kept = "".join(c for c in name if unicodedata.category(c)[0] not in "CZ" or c == " ")
    return kept if len(kept) <= longest else f"{kept[: longest - 15]}…{kept[-14:]}"


def shorten(names: list[str], limit: int | None = 8) -> str:
    """``a, b, c and 5 more``."""
    if limit is None or len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def natural_text(text: str) -> list[tuple[int, int | str]]:
    """``natural`` of a text."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]
