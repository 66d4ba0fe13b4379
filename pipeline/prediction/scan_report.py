"""The report on one scan: its texts, and as HTML.

``uncus.pipeline.prediction.scan_report_pdf`` makes a PDF of the same content. The texts state no
diagnosis, only which of the training scans the networks find similar to this one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from uncus.data.segmentation.measures import centile_text
from uncus.pipeline.prediction.answer_text import (
    because,
    calibrated_for,
    domain_line,
    first_upper,
    intervals_note,
    is_foreign,
    most_similar,
    named,
    why,
)
from uncus.pipeline.rendering.html import card, document, image, notice, table, text
from uncus.pipeline.rendering.numbers import fixed, number

REGIONS = 20
"""Most regions listed."""
CAUTION = (
    "The map shows what these networks used, which may differ from the effects of a disease. R and "
    "L are the subject's right and left."
)
Answer = Mapping[str, Any]


@dataclass(frozen=True)
class ScanReport:
    """The report on one scan.

    Parameters
    ----------
    answer: the content of prediction.json.
    method, name: the map's method, and the class or column that it explains.
    figure: PNG of the scan with the map.
    picture: PNG of the scan with the outlines of its segmentation.
    charts: growth charts of its volumes, as SVG and as PNG; empty where there are none.
    """

    answer: Answer
    method: str
    name: str
    figure: bytes
    picture: bytes = b""
    charts: tuple[str, bytes] = ("", b"")

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What the prediction was made with, for the end of the report."""
        model = self.answer["model"]
        networks = f"{model['networks']} of {model['backbone']} with {model['norm']} norm"
        facts = [
            ("Scan", str(self.answer["scan"])),
            ("Run", str(model["run"])),
            ("Networks", networks),
            ("Model card, SHA-256", str(model["card_sha256"])),
            ("Map", f"{self.method} for {self.name}"),
            ("Made", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
            ("Made by", f"uncus {model['uncus']}"),
        ]
        for name, share in self.answer.get("uncalibrated", {}).items():
            facts.append((f"{name}, not calibrated", fixed(share, 3)))
        for name, value in self.answer.get("covariates", {}).items():
            facts.insert(1, (name, "unknown" if value is None else f"{value:g}"))
        if volumes := self.answer.get("volumes"):
            facts.append(("Segmentation", str(volumes["method"])))
            facts.append(("Centiles", str(volumes["reference"])))
        if self.answer.get("atlas"):
            facts.append(("Regions", str(self.answer["atlas"])))
        return facts

    @property
    def rows(self) -> list[list[str]]:
        """One row per class or column: name, value, standard deviation over the networks.

        There are none for a scan of another domain than the run's.
        """
        if is_foreign(self.answer):
            return []
        digits = 2 if "probabilities" in self.answer else 3
        spread = self.answer["spread"]
        several = len(self.answer["members"]) > 1
        return [
            [name, fixed(value, digits), f"± {fixed(spread[name], digits)}" if several else "–"]
            for name, value in shares(self.answer).items()
        ]

    @property
    def volumes(self) -> list[list[str]]:
        """The measured volumes, if the scan was segmented."""
        return volume_rows(self.answer)

    @property
    def regions(self) -> list[list[str]]:
        """The regions with the largest shares of the map, if the scan was registered."""
        return [
            [row["region"], f"{row['saliency_share']:.1%}"]
            for row in self.answer.get("regions", [])[:REGIONS]
        ]

    @property
    def heading(self) -> str:
        """Of the map."""
        if is_foreign(self.answer):
            return "What the networks used"
        return f"Evidence for {self.name} in the scan"

    @property
    def doubts(self) -> list[str]:
        """Why not to trust the map."""
        return list(self.answer.get("saliency_warnings", []))

    @property
    def caution(self) -> str:
        """What holds of any map, and the verdict on the method that the doubts do not name."""
        check = self.answer.get("saliency_check", "")
        return CAUTION if check in self.doubts else f"{CAUTION} {check}".strip()

    def html(self) -> str:
        """A self-contained page."""
        foreign = is_foreign(self.answer)
        body = [
            f"<h1>{text(self.answer['scan'])}</h1>{notice()}",
            f"<p class=lead>{text(sentence(self.answer))}</p>",
            f"<p class={'alarm' if foreign else 'faint'}>{text(domain_line(self.answer))}</p>",
            "" if foreign else f"<p class=faint>{text(calibration(self.answer))}</p>",
            "".join(f"<div class=note><p>{text(w)}</p></div>" for w in self.answer["warnings"]),
            table(HEADS, self.rows) if self.rows else "",
            f"<h2>{text(self.heading)}</h2>",
            "".join(f"<div class=note><p>{text(doubt)}</p></div>" for doubt in self.doubts),
            image(self.figure, "Three planes of the scan with the map", self.caution),
        ]
        if self.picture:
            body += ["<h2>The scan</h2>", image(self.picture, PICTURE_TEXT)]
        if self.volumes:
            body += ["<h2>Volumes</h2>", table(VOLUME_HEADS, self.volumes)]
            body += [f"<p class=faint>{text(centiles_note(self.answer))}</p>"]
        if self.charts[0]:
            body.append(card("", self.charts[0], CHARTS_TEXT, "wide"))
        if self.regions:
            body += ["<h2>Saliency by region</h2>", table(REGION_HEADS, self.regions)]
        body += ["<h2>Details</h2>", table(("", ""), self.facts)]
        return document(f"{self.answer['scan']} · uncus", body)


HEADS = ("", "probability or value", "SD over networks")
REGION_HEADS = ("region", "share of the map")
VOLUME_HEADS = (
    "region",
    "volume, ml",
    "centile, same sex",
    "centile per intracranial volume",
    "left − right",
)
PICTURE_TEXT = "The scan with the outlines of its segmentation, where it has one"
CHARTS_TEXT = (
    "The person's volumes (points) and the 5th, 25th, 50th, 75th and 95th centile of cognitively "
    "normal people of the same sex."
)


def shares(answer: Answer) -> Mapping[str, float]:
    """Class -> its probability, or column -> its value."""
    outputs: Mapping[str, float] = answer.get("probabilities") or answer["values"]
    return outputs


def sentence(answer: Answer) -> str:
    """The prediction in words: the most similar training scans, and how many networks agree."""
    if is_foreign(answer):
        return "The networks give no answer for this scan."
    if "probabilities" not in answer:
        values = [f"{name} {number(value)}" for name, value in answer["values"].items()]
        return f"The networks estimate {', '.join(values)}."
    if "set" in answer or "abstains" in answer:
        return f"{first_upper(named(answer))}: {why(answer)}."
    return most_similar(answer)


def calibration(answer: Answer) -> str:
    """How far the numbers can be trusted."""
    if answer.get("calibrated"):
        return f"Calibrated: {calibrated_for(answer)}. This is not a diagnosis."
    if "probabilities" in answer:
        return (
            "Not calibrated: the probabilities show how strongly the networks favor a class, not "
            f"how likely it is to be true{because(answer)}. This is not a diagnosis."
        )
    return f"{intervals_note(answer)} Estimates, not measurements. This is not a diagnosis."


def volume_rows(answer: Answer) -> list[list[str]]:
    """The measured volumes as text: region, ml, both centiles, (left - right) / (left + right)."""
    rows = answer["volumes"]["regions"] if answer.get("volumes") else []
    return [
        [
            row["region"],
            fixed(row["volume_ml"], 2 if row["volume_ml"] < 100 else 0),
            centile_text(row["centile"]),
            centile_text(row["centile_icv"]),
            "–" if row["asymmetry"] is None else fixed(row["asymmetry"], 2),
        ]
        for row in rows
    ]


def centiles_note(answer: Answer) -> str:
    """Whom the centiles compare with, and why some are absent."""
    volumes = answer["volumes"]
    if volumes["age"] is None or not any(row["centile_icv"] for row in volumes["regions"]):
        return f"No centiles: {volumes['no_centiles']}."
    who = {"F": "women", "M": "men"}.get(volumes["sex"], "")
    same = f"among {who} and, " if who else ""
    note = (
        f"Centiles in cognitively normal people of {volumes['age']:g} years: {same}as a share of "
        "the intracranial volume, among both sexes. Below 5 and above 95 the reference has none. A "
        "small hippocampus or a large ventricle has other causes than Alzheimer's disease too."
    )
    return note + (f" Some are absent: {volumes['no_centiles']}." if volumes["no_centiles"] else "")
