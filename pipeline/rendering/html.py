"""The kit of every HTML page, on Jinja2: a document without other files, cards and tables.

Values are escaped; what is HTML already is passed as ``Markup``.
"""

import base64
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from uncus import NOTICE

RIBBON = "Trained on synthetic brains"
AMBER = "#ffc24b"


@cache
def environment() -> Environment:
    """The templates beside this file."""
    return Environment(
        loader=PackageLoader("uncus.pipeline.rendering"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )


def document(title: str, body: Iterable[str], css: str = "", footer: str = "") -> str:
    """A whole page of HTML parts, with the notice in its footer."""
    return (
        environment()
        .get_template("document.html")
        .render(
            title=title,
            body=map(Markup, body),
            css=Markup(css),
            notice=NOTICE,
            footer=footer,
        )
    )


def card(heading: str, plot: str, caption: str, width: str = "") -> str:
    """A plot (SVG or other HTML) with heading and caption; ``width`` is "wide" or "double"."""
    return _macro("card", heading, Markup(plot), caption, width)


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table of values; the first column is text."""
    return _macro("table", head, rows)


def image(png: bytes | str, meaning: str, caption: str = "") -> str:
    """A PNG (bytes, or base64) embedded as a card; ``meaning`` is its alternative text."""
    data = png if isinstance(png, str) else base64.b64encode(png).decode()
    tag = Markup('<img loading=lazy alt="{}" src="data:image/png;base64,{}">')
    return card("", tag.format(meaning, data), caption or f"{meaning}.", "wide")


def notice() -> str:
    """The notice at the top of a page."""
    return f"<div class=notice>{text(NOTICE)}</div>"


def ribbon() -> str:
    """The ribbon of a run of phantoms, above all that is said of its results."""
    style = (
        f"background: {AMBER}; color: #2b1d00; font-weight: 600; padding: .35rem .9rem; "
        "border-radius: .4rem; margin: 0 0 .8rem"
    )
    return f'<div role="note" style="{style}">{RIBBON}</div>'


def text(value: object) -> str:
    """A value escaped for HTML: names may come from untrusted tables."""
    return str(escape(value))


def _macro(name: str, *arguments: Any) -> str:
    module: Any = environment().get_template("parts.html").module
    return str(getattr(module, name)(*arguments))
