"""Strangers' words made safe_name to show."""

import re
import unicodedata

LONGEST = 48  # characters of a file name that are shown


def safe_name(name: str) -> str:
    """A file name to show: the last part, short, without control or direction characters.

    Backticks go too, so that it may stand between them in Markdown, where nothing else counts.
    """
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(c for c in last if unicodedata.category(c)[0] not in "CZ" or c == " ")
    kept = " ".join(kept.replace("`", "'").split()) or "unnamed"
    if len(kept) <= LONGEST:
        return kept
    return f"{kept[: LONGEST - 15]}…{kept[-14:]}"


def plain(text: str) -> str:
    """Text whose Markdown and HTML characters stand for themselves."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)
