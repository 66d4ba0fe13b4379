"""Untrusted text made safe to show."""

import re
import unicodedata

MAX_LENGTH = 48  # of a displayed file name


def safe_name(name: str) -> str:
    """A file name to display: its last part, shortened, without control characters.

    Backticks are replaced too, so that it can be quoted with them in Markdown.
    """
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(c for c in last if unicodedata.category(c)[0] not in "CZ" or c == " ")
    kept = " ".join(kept.replace("`", "'").split()) or "unnamed"
    if len(kept) <= MAX_LENGTH:
        return kept
    return f"{kept[: MAX_LENGTH - 15]}…{kept[-14:]}"


def plain(text: str) -> str:
    """Text with its Markdown and HTML characters escaped."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)
