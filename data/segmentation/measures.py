"""The measured volumes of a scan, with their centiles and asymmetries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from uncus.data.segmentation.centiles import LEVELS, NORMED_ML, SOURCE, load_curves
from uncus.data.segmentation.correction import Corrections, Volumes, structure
from uncus.data.segmentation.segmentation import Segmentation
from uncus.data.tables import write_table

ICV = "intracranial space"


def measure(
    segmentation: Segmentation,
    age: float | None = None,
    sex: str = "",
) -> dict[str, Any]:
    """The volumes of a person.

    Parameters
    ----------
    age: years; None if unknown.
    sex: "F" or "M"; "" if unknown.

    Returns
    -------
    ``regions``, a row for each: region; volume_ml; asymmetry, (left - right) / (left + right) of
    both sides; centile, among people of the same age and sex; centile_icv, of the share of the
    intracranial volume, among both sexes. Centiles are 5 to 95, see :meth:`Curves.centile`; None
    where there is none. ``age`` and ``sex``; ``method``, what segmented the scan;
    ``reference``, the source of the centiles; ``no_centiles``, why some are absent, "" if none is.
    """
    volumes = segmentation.volumes
    lines = segmentation.corrections
    rows = []
    for region, ml in volumes.items():
        rows.append(
            {
                "region": region,
                "volume_ml": round(ml, 3),
                "asymmetry": asymmetry(region, volumes),
                "centile": _centile(region, volumes, age, sex, lines) if sex else None,
                "centile_icv": _centile(region, volumes, age, "", lines),
            }
        )
    return {
        "regions": rows,
        "age": age,
        "sex": sex,
        "method": segmentation.method,
        "reference": SOURCE,
        "no_centiles": why_no_centiles(age, sex, lines),
    }


def asymmetry(region: str, volumes: Volumes) -> float | None:
    """(left - right) / (left + right) of a region's two sides; None where it has none."""
    name = structure(region)
    if name == region:
        return None
    left, right = (volumes[f"{side} {name}"] for side in ("left", "right"))
    return round((left - right) / (left + right), 4) if left + right else None


def _centile(
    region: str,
    volumes: Volumes,
    age: float | None,
    sex: str,
    lines: Corrections,
) -> float | None:
    """The centile among people of one sex, or with ``sex`` "" of the normed volume among all."""
    curves, line = load_curves().get((sex, region)), lines.get(structure(region))
    if curves is None or line is None or age is None or not curves.covers(age):
        return None
    if not line.reliable:
        return None
    ml = line.to_dlmuse(volumes[region])
    if not sex:
        skull = lines.get(ICV)
        icv = skull.to_dlmuse(volumes[ICV]) if skull and skull.reliable else 0.0
        if icv <= 0:
            return None
        ml *= NORMED_ML / icv
    return round(curves.centile(age, ml), 1)


def why_no_centiles(age: float | None, sex: str, lines: Corrections) -> str:
    """Why there are no centiles, or none for the sex; "" if there are."""
    if not lines:
        return "this segmentation has not been compared with DLMUSE, whose volumes the centiles are"
    if age is None:
        return "the age is unknown"
    curves = load_curves()[sex, "brain"]
    if not curves.covers(age):
        return f"the reference is of people of {curves.ages[0]:g} to {curves.ages[-1]:g} years"
    weak = [f"{name} {line.r:.2f}" for name, line in lines.items() if not line.reliable]
    reasons = [] if sex else ["the sex is unknown: only centiles of both sexes"]
    if weak:
        reasons.append(f"these volumes follow DLMUSE's too loosely (r {', '.join(weak)})")
    return "; ".join(reasons)


def centile_text(centile: float | None) -> str:
    """A centile as text: "5 or less" and "95 or more" at the ends, a dash for None."""
    if centile is None:
        return "–"
    if centile <= LEVELS[0]:
        return f"{LEVELS[0]} or less"
    return f"{LEVELS[-1]} or more" if centile >= LEVELS[-1] else f"{centile:.0f}"


def write_volumes(path: Path, measures: Mapping[str, Any]) -> None:
    """Write the rows of :func:`measure` as volumes.tsv."""
    write_table(path, pd.DataFrame(measures["regions"], dtype=object))


def volume_columns(measures: Mapping[str, Any]) -> dict[str, float | None]:
    """The volumes of one scan as cells of a table of scans: ml, then centiles among the sex."""
    rows = [(row["region"].replace(" ", "_"), row) for row in measures.get("regions", [])]
    return {f"ml_{name}": row["volume_ml"] for name, row in rows} | {
        f"centile_{name}": row["centile"] for name, row in rows
    }
