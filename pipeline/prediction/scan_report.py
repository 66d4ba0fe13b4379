"""The report on one scan: its texts, and as HTML.

``uncus.pipeline.prediction.scan_report_pdf`` makes a PDF of the same content. The texts state no
diagnosis, only which of the training scans the networks find similar to this one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from uncus.data.segmentation.measures import centile_text
from uncus.pipeline.prediction.answer_html import CSS, axis_html, checks_html
from uncus.pipeline.prediction.answer_text import (
    because,
    brain_age_line,
    calibrated_for,
    checks,
    domain_line,
    first_upper,
    full,
    in_full,
    intervals_note,
    is_foreign,
    is_synthetic,
    most_similar,
    named,
    other_warnings,
    predicted_volumes_line,
    reason,
    title,
    why,
)
from uncus.pipeline.prediction.score_axis import ScoreAxis
from uncus.pipeline.rendering.html import card, document, image, notice, ribbon, table, text
from uncus.pipeline.rendering.numbers import fixed, number

REGIONS = 6
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
    axes: the answer among the run's own scans.
    run: facts of the run, title -> text.
    """

    answer: Answer
    method: str
    name: str
    figure: bytes
    picture: bytes = b""
    charts: tuple[str, bytes] = ("", b"")
    axes: Sequence[ScoreAxis] = ()
    run: Mapping[str, str] = field(default_factory=dict)

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The person, the scan, the run, and what the answer was made with."""
        answer, model = self.answer, self.answer["model"]
        facts = [("Scan", str(answer["scan"])), *person(answer).items()]
        if shown := answer.get("image"):
            if shown.get("series"):
                facts.append(("Series", str(shown["series"])))
            sizes = (" × ".join(f"{n:g}" for n in shown[key]) for key in ("voxels", "mm"))
            facts.append(("Voxels", "{} of {} mm".format(*sizes)))
        networks = f"{model['networks']} of {model['backbone']} with {model['norm']} norm"
        facts += [("Run", str(model["run"])), *self.run.items(), ("Networks", networks)]
        for name, share in answer.get("uncalibrated", {}).items():
            facts.append((f"{full(name)}, not calibrated", fixed(share, 3)))
        if volumes := answer.get("volumes"):
            facts.append(("Segmentation", str(volumes["method"])))
            facts.append(("Centiles", str(volumes["reference"])))
        facts.append(("Map", f"{self.method} for {full(self.name)}"))
        if answer.get("atlas"):
            facts.append(("Regions", str(answer["atlas"])))
        made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        facts.append(("Made", f"{made} by uncus {model['uncus']}"))
        return [*facts, ("Model card, SHA-256", str(model["card_sha256"]))]

    @property
    def title(self) -> str:
        """The answer."""
        return title(self.answer)

    @property
    def reason(self) -> str:
        """Why it is that; in a report on a scan of another domain, why there is none."""
        return reason(self.answer)

    @property
    def trust(self) -> str:
        """How far to trust the answer; "" where there is none."""
        if is_foreign(self.answer):
            return ""
        return in_full(f"{domain_line(self.answer)} {calibration(self.answer)}", self.answer)

    @property
    def spread(self) -> str:
        """The outputs with their spread over the networks; "" where there is no answer."""
        return "" if is_foreign(self.answer) else spread_text(self.answer)

    @property
    def synthetic(self) -> bool:
        """Whether the run was trained on phantoms."""
        return is_synthetic(self.answer)

    @property
    def warnings(self) -> list[str]:
        """What is unusual about the scan, besides that."""
        return list(map(first_upper, other_warnings(self.answer)))

    @property
    def volumes(self) -> list[list[str]]:
        """The measured volumes, if the scan was segmented."""
        return volume_rows(self.answer)

    @property
    def regions(self) -> str:
        """The regions with the largest shares of the map, if the scan was registered."""
        rows = self.answer.get("regions", [])[:REGIONS]
        shares = ", ".join(f"{row['region']} {row['saliency_share']:.1%}" for row in rows)
        return f"Largest shares of the map: {shares}." if shares else ""

    @property
    def heading(self) -> str:
        """Of the map."""
        if is_foreign(self.answer):
            return "What the networks used"
        return f"Evidence: for and against {full(self.name)}"

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
            ribbon() if self.synthetic else "",
            f"<h1>{text(self.title)}</h1>",
            f"<p class={'alarm' if foreign else 'lead'}>{text(self.reason)}</p>",
            f"<p class=faint>{text(self.answer['scan'])}</p>{notice()}",
            f"<p>{text(age)}.</p>" if (age := brain_age_line(self.answer)) else "",
            *map(axis_html, self.axes),
            checks_html(checks(self.answer)),
            *(f"<div class=note><p>{text(warning)}</p></div>" for warning in self.warnings),
        ]
        if self.volumes:
            body += ["<h2>Volumes</h2>", table(VOLUME_HEADS, self.volumes)]
            body += [f"<p class=faint>{text(centiles_note(self.answer))}</p>"]
        if line := predicted_volumes_line(self.answer):
            body.append(f"<p class=faint>{text(line)}.</p>")
        if self.charts[0]:
            body.append(card("", self.charts[0], CHARTS_TEXT, "wide"))
        body += [
            f"<h2>{text(self.heading)}</h2>",
            *(f"<div class=note><p>{text(doubt)}</p></div>" for doubt in self.doubts),
            image(self.figure, "Three planes of the scan with the map", self.caution),
            f"<p>{text(self.regions)}</p>" if self.regions else "",
            "<h2>How far to trust it</h2>",
            f"<p>{text(self.trust)}</p><p>{text(self.spread)}</p>" if self.trust else "",
        ]
        if self.picture:
            body.append(image(self.picture, PICTURE_TEXT))
        body.append(table(("", ""), self.facts).replace("<table", "<table class=facts"))
        return document(f"{self.answer['scan']} · uncus", body, CSS)


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


def spread_text(answer: Answer) -> str:
    """Each output with its standard deviation over the networks; of two classes the last."""
    many = len(answer["members"])
    if many == 1:
        return "There is one network, hence no standard deviation between networks."
    names = list(shares(answer))
    classes = "probabilities" in answer
    if classes and len(names) == 2:
        names = names[-1:]  # the other is the rest
    lines = []
    for name in names:
        pair = shares(answer)[name], answer["spread"][name]
        value, deviation = (fixed(one, 2) if classes else number(one) for one in pair)
        lines.append(f"{full(name)} {value} ± {deviation}")
    return f"{', '.join(lines)} (± one standard deviation between the {many} networks)."


def person(answer: Answer) -> dict[str, str]:
    """Age, sex and covariates of the person, as far as they were asked for."""
    known = dict(answer.get("covariates", {}))
    if volumes := answer.get("volumes"):
        known |= {"age": volumes["age"], "sex": volumes["sex"]}
    units = {"age": " years"}
    return {
        first_upper(name): f"{value:g}{units.get(name, '')}" if isinstance(value, float) else value
        for name, value in ((n, v if v not in (None, "") else "unknown") for n, v in known.items())
    }


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
