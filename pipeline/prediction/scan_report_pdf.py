"""The report on one scan as a PDF."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from PIL import Image

from uncus import NOTICE
from uncus.pipeline.prediction.answer_text import domain_line, is_foreign
from uncus.pipeline.prediction.scan_report import (
    CHARTS_TEXT,
    HEADS,
    PICTURE_TEXT,
    REGION_HEADS,
    VOLUME_HEADS,
    ScanReport,
    calibration,
    centiles_note,
    sentence,
)

if TYPE_CHECKING:
    from fpdf import FPDF

INK, FAINT, RULE = (34, 48, 58), (98, 113, 124), (210, 216, 221)
ALARM = (179, 38, 30)
FONT = "DejaVu"  # ships with matplotlib; file names may contain any letter


def pdf(report: ScanReport) -> bytes:
    """A4 pages with selectable text."""
    page = _document()
    page.set_title(f"{report.answer['scan']} · uncus")
    _text(page, str(report.answer["scan"]), 15, style="B")
    _text(page, NOTICE, 10, style="B", gap=4)
    _text(page, sentence(report.answer), 11)
    foreign = is_foreign(report.answer)
    _text(page, domain_line(report.answer), 11 if foreign else 9, ALARM if foreign else FAINT)
    if not foreign:
        _text(page, calibration(report.answer), 9, FAINT, gap=3)
    for warning in report.answer["warnings"]:
        _text(page, f"Warning: {warning}", 9.5, gap=2)
    if report.rows:
        _table(page, HEADS, report.rows, (60, 60, 50))
        page.ln(4)
    _text(page, report.heading, 12, style="B", gap=2)
    for doubt in report.doubts:
        _text(page, f"Warning: {doubt}", 9.5, gap=2)
    page.image(io.BytesIO(report.figure), w=page.epw)
    page.ln(1)
    _text(page, report.caution, 8.5, FAINT, gap=4)
    if report.picture:
        _picture(page, "The scan", report.picture, f"{PICTURE_TEXT}.")
    if report.volumes:
        _text(page, "Volumes", 12, style="B", gap=2)
        _table(page, VOLUME_HEADS, report.volumes, (46, 24, 30, 48, 26))
        page.ln(1)
        _text(page, centiles_note(report.answer), 8.5, FAINT, gap=4)
    if report.charts[1]:
        _picture(page, "Growth charts", report.charts[1], CHARTS_TEXT)
    if report.regions:
        _text(page, "Saliency by region", 12, style="B", gap=2)
        _table(page, REGION_HEADS, report.regions, (76, 34))
        page.ln(4)
    _text(page, "Details", 12, style="B", gap=2)
    for name, value in report.facts:
        _text(page, f"{name}: {value}", 8.5, FAINT, gap=0.5)
    return bytes(page.output())


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
    page.set_margins(18, 16)
    page.set_auto_page_break(True, margin=18)
    page.add_page()
    return page


def _picture(page: "FPDF", heading: str, picture: bytes, caption: str) -> None:
    """A heading, a picture of the page's width and its caption, all on one page."""
    with Image.open(io.BytesIO(picture)) as opened:
        height = page.epw * opened.height / opened.width
    if page.will_page_break(height + 24):
        page.add_page()
    _text(page, heading, 12, style="B", gap=2)
    page.image(io.BytesIO(picture), w=page.epw)
    page.ln(1)
    _text(page, caption, 8.5, FAINT, gap=4)


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
