"""The report on one scan as a PDF."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from PIL import Image

from uncus import NOTICE
from uncus.pipeline.prediction.answer_html import COLORS
from uncus.pipeline.prediction.answer_text import (
    brain_age_line,
    checks,
    is_foreign,
    predicted_volumes_line,
)
from uncus.pipeline.prediction.scan_report import (
    CHARTS_TEXT,
    PICTURE_TEXT,
    VOLUME_HEADS,
    ScanReport,
    centiles_note,
)
from uncus.pipeline.prediction.score_axis import BINS, ScoreAxis
from uncus.pipeline.rendering.html import AMBER, RIBBON

if TYPE_CHECKING:
    from fpdf import FPDF

INK, FAINT, RULE = (34, 48, 58), (98, 113, 124), (210, 216, 221)
ALARM, BETWEEN = (179, 38, 30), (232, 235, 237)
FONT = "DejaVu"  # ships with matplotlib; file names may contain any letter
MARGIN_MM, PICTURE_MM, PICTURE_HEIGHT_MM = 18.0, 84.0, 75.0
SMALLEST = 0.7
"""Of a picture's size, where that keeps it on the page."""
BARS_MM = 6.0
EVIDENCE_MM = 95.0
"""The map's heading is on the page of its figure."""


def pdf(report: ScanReport) -> bytes:
    """A4 pages with selectable text: the answer and the volumes, then evidence and trust."""
    page = _document()
    page.set_title(f"{report.answer['scan']} · uncus")
    foreign = is_foreign(report.answer)
    if report.synthetic:
        page.set_fill_color(AMBER)
        page.set_font(FONT, style="B", size=10)
        page.set_text_color(*INK)
        page.cell(0, 7, f" {RIBBON}", fill=True, new_x="LMARGIN", new_y="NEXT")
        page.ln(2)
    _text(page, report.title, 17, style="B")
    _text(page, report.reason, 11, ALARM if foreign else INK)
    _text(page, str(report.answer["scan"]), 9, FAINT)
    _text(page, NOTICE, 9, style="B", gap=2)
    if line := brain_age_line(report.answer):
        _text(page, f"{line}.", 10)
    for axis in report.axes:
        _axis(page, axis)
    _text(page, " · ".join(check.text for check in checks(report.answer)), 9.5, style="B", gap=2)
    for warning in report.warnings:
        _text(page, f"Warning: {warning}", 9, gap=1)
    if report.volumes:
        _text(page, "Volumes", 12, style="B", gap=1)
        _table(page, VOLUME_HEADS, report.volumes, (46, 24, 30, 48, 26))
        page.ln(1)
        _text(page, centiles_note(report.answer), 8, FAINT, gap=2)
    if line := predicted_volumes_line(report.answer):
        _text(page, f"{line}.", 8, FAINT, gap=2)
    if report.charts[1]:
        _picture(page, report.charts[1], CHARTS_TEXT, page.epw)
    if page.will_page_break(EVIDENCE_MM):
        page.add_page()
    _text(page, report.heading, 12, style="B", gap=2)
    for doubt in report.doubts:
        _text(page, f"Warning: {doubt}", 9, gap=2)
    _picture(page, report.figure, report.caution, page.epw)
    if report.regions:
        _text(page, report.regions, 9, gap=3)
    _text(page, "How far to trust it", 12, style="B", gap=1)
    if report.trust:
        _text(page, f"{report.trust} {report.spread}", 9, gap=3)
    if report.picture:
        if page.will_page_break(PICTURE_HEIGHT_MM):
            page.add_page()
        top = page.get_y()
        _picture(page, report.picture, f"{PICTURE_TEXT}.", PICTURE_MM)
        page.set_left_margin(MARGIN_MM + PICTURE_MM + 4)  # the facts are beside it
        page.set_y(top)
    for name, value in report.facts:
        _text(page, f"{name}: {value}", 7, FAINT, gap=0)
    page.set_left_margin(MARGIN_MM)
    return bytes(page.output())


def _axis(page: "FPDF", axis: ScoreAxis) -> None:
    """The axis: bars of the run's scans, and this scan as a line through them."""
    left, width, low = page.l_margin, page.epw, page.get_y() + 6
    height = (BARS_MM + 5) * max(1, len(axis.groups))
    here = left + width * axis.at(axis.value)
    if axis.between:
        ends = [left + width * axis.at(end) for end in axis.between]
        page.set_fill_color(*BETWEEN)
        page.rect(ends[0], low, ends[1] - ends[0], height, style="F")
    page.set_text_color(*INK)
    page.set_draw_color(*RULE)
    page.set_font(FONT, size=8)
    for row, (color, (name, counts)) in enumerate(zip(COLORS, axis.groups.items(), strict=False)):
        base = low + (row + 1) * (BARS_MM + 5)
        page.text(left, base - BARS_MM - 1, name)
        page.set_fill_color(color)
        for k, count in enumerate(counts):
            if not count:
                continue
            bar = BARS_MM * count / max(counts)
            page.rect(left + width * (k + 0.08) / BINS, base - bar, 0.84 * width / BINS, bar, "F")
        page.line(left, base, left + width, base)
    page.set_draw_color(*INK)
    page.set_line_width(0.8)
    page.line(here, low - 1, here, low + height)
    page.set_line_width(0.2)
    for tick in axis.ticks:
        label = f"{tick:g}"
        middle = left + width * axis.at(tick) - page.get_string_width(label) / 2
        page.text(min(max(left, middle), left + width - 4), low + height + 3.5, label)
    page.set_font(FONT, style="B", size=9)
    value = f"this scan: {axis.text}"
    back = page.get_string_width(value) if axis.at(axis.value) > 0.5 else 0.0
    page.text(here - back, low - 2, value)
    page.set_fill_color(255, 255, 255)
    page.set_y(low + height + 5)
    zone = f" (shaded: {axis.between_title})" if axis.between else ""
    _text(page, f"{axis.caption}{zone}", 8, FAINT, gap=2)


def _document() -> "FPDF":
    from fpdf import FPDF

    class Pages(FPDF):
        def footer(self) -> None:
            self.set_y(-14)
            self.set_font(FONT, size=8)
            self.set_text_color(*FAINT)
            self.cell(0, 6, f"{NOTICE}  {self.page_no()}", align="C")

    page = Pages(format="A4")
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    page.add_font(FONT, "", fonts / "DejaVuSans.ttf")
    page.add_font(FONT, "B", fonts / "DejaVuSans-Bold.ttf")
    page.set_margins(MARGIN_MM, 16)
    page.set_auto_page_break(True, margin=18)
    page.add_page()
    return page


def _picture(page: "FPDF", picture: bytes, caption: str, width: float) -> None:
    """A picture of this width (mm), or somewhat less, and its caption, on one page."""
    with Image.open(io.BytesIO(picture)) as opened:
        height = width * opened.height / opened.width
    room = page.page_break_trigger - page.get_y() - 12
    if room < SMALLEST * height:
        page.add_page()
    elif room < height:
        width *= room / height
    page.image(io.BytesIO(picture), w=width)
    page.ln(1)
    _text(page, caption, 8, FAINT, gap=3)


def _text(
    page: "FPDF",
    text: str,
    size: float,
    color: tuple[int, int, int] = INK,
    style: str = "",
    gap: float = 1.5,
) -> None:
    page.set_font(FONT, style=style, size=size)
    page.set_text_color(*color)
    from fpdf.enums import WrapMode

    # Hashes and long names have no spaces.
    wrap = WrapMode.CHAR if len(text.split()) == 1 else WrapMode.WORD
    page.multi_cell(0, size * 0.5, text, new_x="LMARGIN", new_y="NEXT", align="L", wrapmode=wrap)
    page.ln(gap)


def _table(
    page: "FPDF", heads: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]
) -> None:
    page.set_font(FONT, size=9)
    page.set_text_color(*INK)
    page.set_draw_color(*RULE)
    with page.table(
        col_widths=tuple(widths),
        width=sum(widths),
        align="L",
        text_align=("LEFT", *["RIGHT"] * (len(heads) - 1)),
        borders_layout="HORIZONTAL_LINES",
        line_height=5.2,
    ) as table:
        for row in (heads, *rows):
            table.row(list(row))
