"""The report on one scan: its texts, without a diagnosis, and its two formats."""

import io
import re
from typing import Any

import pytest
from PIL import Image

from uncus import NOTICE
from uncus.pipeline.prediction.answer_html import axis_html
from uncus.pipeline.prediction.scan_report import (
    ScanReport,
    calibration,
    centiles_note,
    sentence,
    volume_rows,
)
from uncus.pipeline.prediction.scan_report_pdf import pdf
from uncus.pipeline.prediction.score_axis import ScoreAxis
from uncus.pipeline.rendering.html import RIBBON
from uncus.pipeline.trust.domain import SYNTHETIC

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
    return blank(40, 20)


def test_texts() -> None:
    text = sentence(answer())
    assert "more similar to the training scans labelled AD than to those labelled CN" in text
    assert "2 of 2 networks" in text and "0.75" in text and "patient" not in text
    assert "1 of 2 networks" in sentence(answer(0.1, 0.6))
    assert "favor no class" in sentence(answer(0.45, 0.5))
    assert "Not calibrated" in calibration(answer())
    assert "(3 subjects of AD)" in calibration(answer(not_calibrated="3 subjects of AD"))
    shares = {"CN": 0.9, "AD": 0.1}
    known = calibration(answer(calibrated=True, prevalence=shares))
    assert known.startswith("Calibrated: ") and "90% CN, 10% AD" in known
    fits = sentence(answer(set=["AD"], error_level=0.1, prevalence=shares))
    assert fits.startswith("AD-like: at an error level of 10% this scan fits") and "0.75" in fits
    doubt = {"label": None, "abstains": "CN and AD both fit", "set": ["CN", "AD"]}
    assert sentence(answer(**doubt)) == "Cannot tell: CN and AD both fit."
    values = {"values": {"age": 71.25}, "members": [{}], "spread": {"age": 0.0}}
    assert sentence(values) == "The networks estimate age 71.25."
    assert "errors of too few scans" in calibration(values)
    ends = {"intervals": {"age": [65.0, 77.5]}, "error_level": 0.1}
    assert "the value of 90% of scans like the run's: age 65.00 to 77.50" in calibration(
        values | ends
    )


VOLUMES = {
    "regions": [
        {
            "region": "left hippocampus",
            "volume_ml": 2.456,
            "asymmetry": -0.0412,
            "centile": 5.0,
            "centile_icv": 12.3,
        },
        {
            "region": "intracranial space",
            "volume_ml": 1432.4,
            "asymmetry": None,
            "centile": None,
            "centile_icv": None,
        },
    ],
    "age": 77.7,
    "sex": "M",
    "method": "test",
    "reference": "NiChart",
    "no_centiles": "",
}


def test_volumes_as_text() -> None:
    assert volume_rows(answer()) == []
    assert volume_rows(answer(volumes=VOLUMES)) == [
        ["left hippocampus", "2.46", "5 or less", "12", "−0.04"],
        ["intracranial space", "1432", "–", "–", "–"],
    ]
    assert "77.7 years: among men and," in centiles_note(answer(volumes=VOLUMES))
    unknown = {**VOLUMES, "sex": "", "no_centiles": "the sex is unknown"}
    note = centiles_note(answer(volumes=unknown))
    assert "men" not in note.replace("women", "") and note.endswith("the sex is unknown.")
    none = {**VOLUMES, "age": None, "no_centiles": "the age is unknown"}
    assert centiles_note(answer(volumes=none)) == "No centiles: the age is unknown."


def test_volumes_picture_and_charts_in_both_formats(figure: bytes) -> None:
    parts = (answer(volumes=VOLUMES), "grad_cam", "AD", figure)
    report = ScanReport(*parts, figure, ("<svg id=charts></svg>", figure))
    page, without = report.html(), ScanReport(*parts).html()
    assert "left hippocampus" in page and "5 or less" in page and "NiChart" in page
    assert page.count("data:image/png") == 2 and "<svg id=charts>" in page
    assert without.count("data:image/png") == 1 and "<svg" not in without
    assert len(pdf(report)) > len(pdf(ScanReport(*parts)))


def test_a_map_not_to_be_trusted_is_marked_in_both_formats(figure: bytes) -> None:
    failed, passed = "This method <b>failed</b>.", "This method passed."
    marks = {"saliency_warnings": [failed], "saliency_check": failed}
    marked = ScanReport(answer(**marks), "grad_cam", "AD", figure)
    page = marked.html()
    assert page.count("This method &lt;b&gt;failed") == 1  # not again below the figure
    fine = {"saliency_warnings": [], "saliency_check": passed}
    good = ScanReport(answer(**fine), "grad_cam", "AD", figure)
    assert good.html().count(passed) == 1 and not good.doubts
    assert len(pdf(marked)) != len(pdf(ScanReport(answer(), "grad_cam", "AD", figure)))


@pytest.mark.parametrize("regions", [False, True])
def test_html_and_pdf(regions: bool, figure: bytes) -> None:
    rows = [
        {"region": region, "saliency_share": 0.31} for region in ("Left Hippocampus", "Brain Stem")
    ]
    more = {"regions": rows * 9, "atlas": "credit"} if regions else {}
    image = {"voxels": [176, 240, 256], "mm": [1.0, 1.0, 1.2], "series": "MPRAGE"}
    report = ScanReport(
        answer(covariates={"age": None, "mmse": 28.0}, image=image, **more),
        "grad_cam",
        "AD",
        figure,
        run={"Measured": "AUC 0.8"},
    )
    page = report.html()
    assert NOTICE in page and "<b>Müller" not in page and "&lt;b&gt;Müller" in page
    assert ("Left Hippocampus" in page) is regions
    for name, value in (
        ("Age", "unknown"),
        ("Mmse", "28"),
        ("Series", "MPRAGE"),
        ("Voxels", "176 × 240 × 256 of 1 × 1 × 1.2 mm"),
        ("Measured", "AUC 0.8"),
    ):
        assert f"<th scope=row>{name}</th><td>{value}</td>" in page
    assert "<h1>Alzheimer&#39;s-type dementia</h1>" in page and "not calibrated" in page
    assert "0.75 ± 0.05" in page and "0.25 ± 0.05" not in page, "two classes are one number"
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    content = pdf(report)
    assert content.startswith(b"%PDF") and len(content) > 10_000


def test_a_run_of_phantoms_has_its_ribbon_in_both_formats(figure: bytes) -> None:
    parts = ("grad_cam", "AD", figure)
    synthetic = ScanReport(answer(warnings=[SYNTHETIC]), *parts)
    people = ScanReport(answer(warnings=[]), *parts)
    assert RIBBON in synthetic.html() and RIBBON not in people.html()
    assert synthetic.warnings == [] and len(pdf(synthetic)) > len(pdf(people))


def test_the_figures_are_those_of_the_page_on_two_pages() -> None:
    groups = {"cognitively normal: 40 scans": (1,) * 40, "dementia: 40 scans": (1,) * 40}
    axis = ScoreAxis("probability", (0, 1), 0.753, "0.75", groups, (0.4, 0.6), "no")
    report = ScanReport(
        answer(
            volumes={**VOLUMES, "regions": VOLUMES["regions"] * 4},
            brain_age={"value": 71.2, "low": 60.0, "high": 82.0, "level": 0.9, "gap": 3.1},
            predicted_volumes={"hippocampus_left": 2.41, "hippocampus_right": 2.3, "etiv": 1233.0},
            image={"voxels": [176, 256, 256], "mm": [1.0, 1.0, 1.0], "series": "T1 MPRAGE"},
            regions=[
                {"region": f"Right PoG postcentral gyrus {k}", "saliency_share": 0.1}
                for k in range(6)
            ],
        ),
        "grad_cam",
        "AD",
        blank(1100, 451),
        blank(1000, 780),
        ("<svg></svg>", blank(1600, 800)),
        [axis],
        {"Trained on": "138 people", "Measured": "AUC 0.8 (0.7 to 0.9). " * 4},
    )
    assert axis_html(axis) in report.html()
    assert report.facts[1:3] == [("Age", "77.7 years"), ("Sex", "M")]
    assert len(re.findall(rb"/Type /Page\b", pdf(report))) == 2


def blank(width: int, height: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height)).save(content, format="png")
    return content.getvalue()
