"""Markdown: texts are shown as they are, whatever they contain."""

import pytest

from uncus.pipeline.rendering.markdown import Section, Table, escape, render

markdown_it = pytest.importorskip("markdown_it", reason="a renderer, installed with rich")

HOSTILE = [
    "<script>alert(1)</script>",
    "a | b",
    "[x](javascript:y)",
    "![x](http://host/i.png)",
    "**bold** _em_ `code` ~~no~~",
    "# no heading",
    "- no point",
    "1. no number",
    "line\nbreak | cell",
    "https://host and www.host.org and a@b.org",
    "a\\b &amp; $x^2$",
    "0.940 (0.885 to 0.983)",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_shown_as_it_is(text: str) -> None:
    page = render([Section("t", [text, [text], Table(["h"], [[text]])])])
    tokens = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).parse(page)
    inlines = [token for token in tokens if token.type == "inline"]
    shown = ["".join(c.content for c in token.children) for token in inlines]
    line = " ".join(text.split())
    assert shown == ["t", line, line, "h", line]
    assert {c.type for token in inlines for c in token.children} <= {"text", "text_special"}
    assert [t.type for t in tokens].count("list_item_open") == 1


def test_numbers_stay_readable() -> None:
    assert escape("0.940 (−0.1 to 1.0), 95%") == "0.940 (−0.1 to 1.0), 95%"
