"""The report on one scan: its texts, without a diagnosis, and its two formats."""

import io
from typing import Any

import pytest
from PIL import Image

from uncus import NOTICE
from uncus.pipeline.prediction.scan_report import ScanReport, calibration, sentence
from uncus.pipeline.prediction.scan_report_pdf import pdf

MODEL = {
    "run": "run",
    "backbone": "tiny",
    "norm": "group",
    "networks": 2,
    "uncus": "0.1.0",
    "card_sha256": "0" * 64,
}


def answer(first: float = 0.2, second: float = 0.3, **more: Any) -> dict[str, Any]:
    members = [{"CN": p, "AD": 1 - p} for p in (first, second)]
    mean = (first + second) / 2
    return {
        "scan": "<b>Müller</b> \u4e2d.nii",
        "label": "CN" if mean > 0.5 else "AD",
        "probabilities": {"CN": mean, "AD": 1 - mean},
        "calibrated": False,
        "spread": {"CN": 0.05, "AD": 0.05},
        "members": members,
        "warnings": ["Slices are 6.0 mm thick."],
        "model": MODEL,
        **more,
    }


@pytest.fixture
def figure() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (40, 20)).save(content, format="png")
    return content.getvalue()


def test_texts() -> None:
    text = sentence(answer())
    assert "more similar to the training scans labelled AD than to those labelled CN" in text
    assert "2 of 2 networks" in text and "0.75" in text and "patient" not in text
    assert "1 of 2 networks" in sentence(answer(0.1, 0.6))
    assert "favor no class" in sentence(answer(0.45, 0.5))
    assert "Not calibrated" in calibration(answer())
    assert "Not calibrated" not in calibration(answer(calibrated=True))
    values = {"values": {"age": 71.25}, "members": [{}], "spread": {"age": 0.0}}
    assert sentence(values) == "The networks estimate age 71.25."


@pytest.mark.parametrize("regions", [False, True])
def test_html_and_pdf(regions: bool, figure: bytes) -> None:
    rows = [
        {"region": region, "saliency_share": 0.31} for region in ("Left Hippocampus", "Brain Stem")
    ]
    more = {"regions": rows * 9, "atlas": "credit"} if regions else {}
    report = ScanReport(answer(covariates={"age": None}, **more), "grad_cam", "AD", figure)
    page = report.html()
    assert NOTICE in page and "<b>Müller" not in page and "&lt;b&gt;Müller" in page
    assert ("Left Hippocampus" in page) is regions and "age" in page
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    content = pdf(report)
    assert content.startswith(b"%PDF") and len(content) > 10_000
