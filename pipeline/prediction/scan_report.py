"""The answer for one scan as a sheet to read, print and keep: its words, and its HTML.

The same content becomes a PDF in uncus.pipeline.prediction.scan_report_pdf. Nobody is said to have
a disease: the words tell what the networks were shown, and to which of it this scan is alike.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from uncus import NOTICE
from uncus.pipeline.evaluation.report import CSS, table
from uncus.pipeline.evaluation.report_text import fixed, number, text

NEITHER = 0.1
"""Shares this close to an even vote lean to no class."""
REGIONS = 20
CAUTION = (
    "The map shows what these networks used, which need not be what a disease does. R and L are "
    "the subject's right and left."
)
Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Sheet:
    """What the sheet of a scan says.

    Parameters
    ----------
    answer: as ``Prediction.as_dict`` has it, with "regions" where there are any.
    method, name: the map, and the class or column that it explains.
    picture: PNG of the scan with the map.
    """

    answer: Answer
    method: str
    name: str
    picture: bytes

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What made the answer, for the end of the sheet."""
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
        for name, value in self.answer.get("covariates", {}).items():
            facts.insert(1, (name, "not known" if value is None else f"{value:g}"))
        if self.answer.get("atlas"):
            facts.append(("Regions", str(self.answer["atlas"])))
        return facts

    @property
    def rows(self) -> list[list[str]]:
        """One row a class or column: name, value, spread over the networks."""
        digits = 2 if "probabilities" in self.answer else 3
        spread = self.answer["spread"]
        several = len(self.answer["members"]) > 1
        return [
            [name, fixed(value, digits), f"± {fixed(spread[name], digits)}" if several else "–"]
            for name, value in shares(self.answer).items()
        ]

    @property
    def regions(self) -> list[list[str]]:
        """The regions with the largest shares of the map, where the scan was registered."""
        return [
            [
                row["region"],
                f"{row['saliency_share']:.1%}",
                fixed(row["volume_mm3"] / 1000, 1),
                "–" if row["asymmetry"] is None else fixed(row["asymmetry"], 2),
            ]
            for row in self.answer.get("regions", [])[:REGIONS]
        ]

    def html(self) -> str:
        """A page that needs nothing else."""
        picture = base64.b64encode(self.picture).decode()
        body = [
            f"<h1>{text(self.answer['scan'])}</h1><div class=notice>{text(NOTICE)}</div>",
            f"<p class=lead>{text(sentence(self.answer))}</p>",
            f"<p class=faint>{text(calibration(self.answer))}</p>",
            "".join(f"<div class=said><p>{text(w)}</p></div>" for w in self.answer["warnings"]),
            table(HEADS, self.rows),
            f"<h2>What speaks for {text(self.name)} in the scan</h2>",
            f'<figure class=wide><img alt="Three planes" style="width:100%" '
            f'src="data:image/png;base64,{picture}"><figcaption>{text(CAUTION)}</figcaption>'
            "</figure>",
        ]
        if self.regions:
            body += ["<h2>Where the map lies</h2>", table(REGION_HEADS, self.regions)]
        body += ["<h2>How it was made</h2>", table(("", ""), self.facts)]
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{text(self.answer['scan'])} · uncus</title><style>{CSS}</style></head>"
            f"<body><main>{''.join(body)}<footer>{text(NOTICE)}</footer></main></body></html>\n"
        )


HEADS = ("", "share of the vote or value", "between networks")
REGION_HEADS = ("region", "share of the map", "volume, ml", "left − right")


def shares(answer: Answer) -> Mapping[str, float]:
    """Class -> its share of the vote, or column -> its value."""
    found: Mapping[str, float] = answer.get("probabilities") or answer["values"]
    return found


def sentence(answer: Answer) -> str:
    """The answer in words: which training scans this one is like, and how far networks agree."""
    members = answer["members"]
    many = len(members)
    if "probabilities" not in answer:
        told = [f"{name} {number(value)}" for name, value in answer["values"].items()]
        return f"The networks estimate {', '.join(told)}."
    found = answer["probabilities"]
    label = answer["label"]
    agree = sum(max(member, key=member.get) == label for member in members)
    votes = f"{agree} of {many} networks" if many > 1 else "the network"
    if found[label] < 1 / len(found) + NEITHER:
        return (
            "The networks lean to no class: this scan is about as like the training scans "
            f"labelled {label} (share {fixed(found[label], 2)}) as the others."
        )
    others = " or ".join(name for name in found if name != label)
    return (
        f"This scan is more like the training scans labelled {label} than like those labelled "
        f"{others}: so say {votes}, with {fixed(found[label], 2)} of the vote."
    )


def calibration(answer: Answer) -> str:
    """What the numbers may be taken for."""
    if answer.get("calibrated"):
        return "Calibrated on scans like those of the run's study; not a diagnosis."
    if "probabilities" in answer:
        return (
            "Not calibrated: the shares tell how far the networks lean to a class, not the chance "
            "that it is so. This is not a diagnosis."
        )
    return "Not calibrated: estimates, not measurements. This is not a diagnosis."
