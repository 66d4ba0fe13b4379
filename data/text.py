"""Text for messages: short, safe to print, sorted as people count."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

NUMBER = re.compile(r"\d+(?:\.\d+)?")


def displayed(name: str) -> str:
    """The name of a file for people: printable, with ``\ufffd`` for bytes that are not UTF-8."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return printable(re.sub(r"\s", " ", text), None)


def printable(text: str, longest: int | None = 80) -> str:
    """Untrusted ``text`` without control and direction characters, cut to ``longest``."""
    kept = "".join(c for c in text if unicodedata.category(c)[0] not in "CZ" or c == " ")
    return (
        kept if longest is None or len(kept) <= longest else f"{kept[: longest - 15]}…{kept[-14:]}"
    )


def shorten(names: list[str], limit: int | None = 5) -> str:
    """List names up to a limit: ``a, b, c and 5 more``."""
    if limit is None or len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: ``a, b and c``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def counted(count: int, what: str) -> str:
    """``1 subject``, ``2 subjects``."""
    return f"{count} {what}{'s' * (count != 1)}"


def natural_text(text: str) -> list[tuple[int, int | str]]:
    """A sort key that puts scan-2 before scan-10."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def alike(text: str) -> str:
    """A text without its numbers, by which texts that differ in them alone are grouped."""
    return NUMBER.sub("#", text)


def with_ranges(texts: Sequence[str]) -> str:
    """One text for several that are ``alike``, with ranges for the numbers that differ.

    ``overlap 0.7``, ``overlap 0.9`` -> ``overlap 0.7 to 0.9``
    """
    spans = []
    for numbers in zip(*(NUMBER.findall(text) for text in texts), strict=True):
        ends = min(numbers, key=float), max(numbers, key=float)
        spans.append(" to ".join(dict.fromkeys(ends)))
    found = iter(spans)
    return NUMBER.sub(lambda _: next(found), texts[0])


def grouped(texts: Iterable[tuple[str, str]], total: int) -> list[tuple[str, list[str]]]:
    """Texts about scans, the most frequent first, each with the names of its scans.

    Those that are ``alike`` are one: ``[("2 of 9 scans: noisy (signal 3 to 5 times)", [a, b])]``.

    Parameters
    ----------
    texts: name of a scan, and a text about it.
    total: number of all scans.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, one in texts:
        groups.setdefault(alike(one), []).append((name, one))
    result = []
    for group in groups.values():
        names = list(dict.fromkeys(name for name, _ in group))
        text = with_ranges([one for _, one in group])
        result.append((f"{len(names)} of {total} scans: {text}", names))
    return sorted(result, key=lambda one: -len(one[1]))
