"""Markdown (GitHub's, which Streamlit and the Hugging Face Hub read too): every text is escaped."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from uncus.data.text import printable

SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~$&@]|:(?=[a-z/])|(?<=www)\.", re.IGNORECASE)
START = re.compile(r"^(?=[-+=])|(?<=^\d)(?=[.)] )|(?<=^\d\d)(?=[.)] )")


class Table(NamedTuple):
    """A table of plain texts."""

    head: Sequence[object]
    rows: Sequence[Sequence[object]]


Block = str | list[str] | Table
"""A paragraph, a list of points, or a table; all plain text."""


class Section(NamedTuple):
    """A heading with what is below it."""

    title: str
    blocks: Sequence[Block]


def escape(value: object) -> str:
    """A text on one line that Markdown shows as it is: no link, no HTML, no formula."""
    line = printable(" ".join(str(value).split()), None)
    return START.sub(r"\\", SPECIAL.sub(r"\\\g<0>", line))


def render(sections: Iterable[Section], level: int = 2) -> str:
    """The sections, one below the other, under headings of ``level``."""
    parts = []
    for section in sections:
        parts.append(f"{'#' * level} {escape(section.title)}")
        parts += [block_text(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def block_text(block: Block) -> str:
    """A paragraph, a list, or a table."""
    if isinstance(block, Table):
        rule = ["---" for _ in block.head]
        rows = [map(escape, block.head), rule, *(map(escape, row) for row in block.rows)]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    if isinstance(block, list):
        return "\n".join(f"- {escape(point)}" for point in block)
    return escape(block)
