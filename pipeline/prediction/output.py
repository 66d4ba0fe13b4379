"""Write and print predictions and explanations."""

import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from uncus import NOTICE
from uncus.data import atlas, files
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import Volume
from uncus.data.imageio.writer import native_array, write_native
from uncus.data.segmentation.labels import write_lookup
from uncus.data.segmentation.measures import centile_text, volume_columns, write_volumes
from uncus.data.segmentation.segmentation import Segmentation
from uncus.data.tables import write_table
from uncus.data.text import displayed
from uncus.pipeline.prediction.answer_text import (
    companion_columns,
    companion_lines,
    domain_line,
    full,
    interval_columns,
    is_foreign,
    named,
    trust_lines,
)
from uncus.pipeline.prediction.results import Explanation, Prediction, Refused
from uncus.pipeline.saliency.structure import NO_STRUCTURE

if TYPE_CHECKING:  # matplotlib is imported where something is drawn
    from matplotlib.figure import Figure

PICTURE = "scan.png"
"""The scan with the outlines of its segmentation, also where it was refused."""
CHARTS = {False: "volumes.svg", True: "volumes-dark.svg"}
"""Growth charts for a light and a dark page."""


def scan_name(path: Path) -> str:
    """The name of the scan's file or folder without extension."""
    name = path.name or path.resolve().name
    return re.sub(r"\.(nii|hdr|img|mgz|mgh|zip|dcm)(\.gz)?$", "", name, flags=re.IGNORECASE)


def check_writable(folder: Path) -> None:
    """Raise BadInput for a folder that cannot be written, before any work is done."""
    probe = folder / ".uncus"
    files.write_text(probe, "")
    probe.unlink()


def write(folder: Path, explanation: Explanation) -> dict[str, Any]:
    """Write prediction.json and the files of `write_map` and `write_scan` to ``folder``.

    Returns the content of prediction.json: the prediction, the map's method, why not to trust the
    map ("saliency_warnings"), and "regions", or "no_regions" with the reason.
    """
    regions = write_map(folder, explanation)
    write_scan(folder, explanation.prediction)
    answer = explanation.prediction.as_dict() | {
        "saliency": explanation.method,
        "saliency_warnings": list(explanation.doubts),
        "saliency_check": explanation.check,
        **regions,
    }
    files.write_json(folder / "prediction.json", answer)
    return answer


def table_row(name: str, answer: dict[str, Any]) -> dict[str, Any]:
    """A prediction (the content of prediction.json) as a row of predictions.tsv."""
    parts = {"p": "probabilities", "pred": "values"}
    parts |= {name: name for name in ("spread", "uncalibrated", "prevalence")}
    figures = {
        f"{short}_{n}": value
        for short, part in parts.items()
        for n, value in answer.get(part, {}).items()
    } | interval_columns(answer)
    if "error_level" in answer:
        figures["error_level"] = answer["error_level"]
    return {
        "scan": displayed(name),
        "label": answer.get("label") or "",
        **({"answer": named(answer)} if "label" in answer else {}),
        # No answer for a scan of another domain: its columns are there, but empty.
        **(dict.fromkeys(figures, "") if is_foreign(answer) else figures),
        **companion_columns(answer),
        **volume_columns(answer.get("volumes", {})),
        "domain": domain_line(answer),
        "warnings": "; ".join(answer["warnings"]),
    }


def write_predictions(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write predictions.tsv, one row per scan; a scan without a prediction has its error there."""
    table = pd.DataFrame(rows).fillna("")
    write_table(folder / "predictions.tsv", table)


def write_scan(folder: Path, prediction: Prediction) -> None:
    """Write the scan's picture and, if it was segmented, dseg.nii.gz on the scan's own grid with
    the names of its classes in dseg.tsv, volumes.tsv and, with age and sex known, growth charts.
    """
    segmentation, volume = prediction.segmentation, prediction.placed.volume
    write_picture(folder, volume, segmentation, prediction.scan)
    if segmentation is None:
        return
    labels = native_array(volume, segmentation.labels)
    write_native(folder / "dseg.nii.gz", labels, volume.native)
    write_lookup(folder / "dseg.tsv")
    write_volumes(folder / "volumes.tsv", prediction.volumes)
    write_charts(folder, prediction)


def write_charts(folder: Path, prediction: Prediction) -> None:
    """Write the growth charts of a scan; there are none of one whose age or sex is unknown."""
    from uncus.pipeline.rendering.growth_chart import growth_charts_svg, has_charts

    segmentation = prediction.segmentation
    age, sex = (prediction.volumes.get(name) for name in ("age", "sex"))
    for dark, name in CHARTS.items():
        (folder / name).unlink(missing_ok=True)
        if segmentation and age is not None and has_charts(segmentation, age, sex or ""):
            files.write_text(folder / name, growth_charts_svg(segmentation, age, sex or "", dark))


@contextmanager
def refusal_pictured(folder: Path) -> Iterator[None]:
    """Write the picture of a scan that is refused inside, with the reason, and raise the error."""
    try:
        yield
        return
    except Refused as refused:
        error = write_refusal(folder, refused)
    raise error


def write_refusal(folder: Path, refused: Refused) -> BadInput:
    """Write the picture of a refused scan, with the reason, to ``folder``; returns the error."""
    folder.mkdir(parents=True, exist_ok=True)
    write_picture(folder, refused.volume, refused.segmentation, str(refused))
    return refused.without_scan()


def write_picture(
    folder: Path, volume: Volume, segmentation: Segmentation | None, title: str
) -> None:
    """Write scan.png."""
    from uncus.pipeline.rendering.head_picture import head_picture

    image = head_picture(volume, segmentation, title, NOTICE)
    files.write_atomically(
        folder / PICTURE,
        lambda path: image.savefig(path, format="png", dpi=100, facecolor="black"),
    )


def write_map(folder: Path, explanation: Explanation, suffix: str = "") -> dict[str, Any]:
    """Write saliency.nii.gz on the scan's own grid, saliency.png and, where the scan was registered
    to MNI152, atlas.tsv to ``folder``; ``suffix`` is appended to the stems of their names.

    Returns "regions" (the rows of atlas.tsv) and "atlas" (its credit), or "no_regions" with the
    reason.
    """
    placed, saliency = explanation.prediction.placed, explanation.on_scan
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"saliency{suffix}.nii.gz"
    write_native(path, native_array(placed.volume, saliency), placed.volume.native)
    image = figure(explanation)
    files.write_atomically(
        folder / f"saliency{suffix}.png",
        lambda path: image.savefig(path, format="png", dpi=110, facecolor="black"),
    )
    if reason := atlas.why_no_regions(placed):
        return {"no_regions": reason}
    if not explanation.has_structure:
        (folder / f"atlas{suffix}.tsv").unlink(missing_ok=True)
        return {"no_regions": NO_STRUCTURE}
    rows = atlas.regions(placed, saliency)
    write_table(folder / f"atlas{suffix}.tsv", pd.DataFrame(rows))
    return {"regions": rows, "atlas": atlas.CREDIT}


def figure(explanation: Explanation) -> "Figure":
    """Three planes of the scan with the map overlaid, if it has structure, and its doubts."""
    from uncus.pipeline.rendering.slices import three_planes

    volume = explanation.prediction.placed.volume
    words = explanation.method.replace("_", " ")
    signed = bool((explanation.saliency < 0).any())
    doubts = [line for doubt in explanation.doubts for line in textwrap.wrap(doubt, 150)]
    return three_planes(
        volume.array,
        volume.affine,
        explanation.on_scan if explanation.has_structure else None,
        title=caption(explanation),
        label=f"against (−) and for (+), {words}" if signed else f"for, {words}",
        note="\n".join([*doubts, NOTICE]),
    )


def caption(explanation: Explanation) -> str:
    """The title of a saliency figure: the scan, and the output that the map explains."""
    prediction, name = explanation.prediction, explanation.name
    if prediction.domain.inside is False:
        return f"{prediction.scan}: what the networks used, of another domain than the run's"
    if prediction.probabilities:
        share, state = prediction.probabilities[name], "calibrated"
        if not prediction.judgement.prevalence:
            state = "not calibrated"
        return f"{prediction.scan}: for and against {full(name)} (probability {share:.2f}, {state})"
    return f"{prediction.scan}: what raises {name}, estimated {prediction.values[name]:.4g}"


def sentence(prediction: Prediction) -> str:
    """The prediction as one line of text, its warnings below."""
    many = len(prediction.members)
    values, digits, ends = prediction.values, ".4g", ".2g"
    if prediction.probabilities:
        values, digits, ends = prediction.probabilities, ".3f", ".3f"
    outputs = "  ".join(
        f"{name} {value:{digits}}" + f" ± {prediction.spread[name]:{ends}}" * (many > 1)
        for name, value in values.items()
    )
    outputs += f"  (± over {many} networks)" * (many > 1)
    if prediction.domain.inside is False:
        outputs = "no answer"
    lines = [f"{prediction.scan}: {outputs} {NOTICE}"]
    answer = prediction.as_dict()
    lines += [f"  {line}" for line in (*trust_lines(answer), *companion_lines(answer))]
    if line := volumes_sentence(prediction.volumes):
        lines.append(f"  {line}")
    return "\n".join([*lines, *(f"  warning: {warning}" for warning in prediction.warnings)])


def show(prediction: Prediction) -> None:
    """Print the prediction, in red where the scan is of another domain than the run's."""
    style = "bold red" if prediction.domain.inside is False else ""
    Console(soft_wrap=True).print(Text(sentence(prediction), style=style))


def volumes_sentence(volumes: Mapping[str, Any]) -> str:
    """The hippocampi's volumes as text, and the centiles where they are known."""
    parts = []
    for row in volumes.get("regions", []):
        if row["region"].endswith("hippocampus"):
            known = row["centile"] is not None
            centile = f" (centile {centile_text(row['centile'])})" if known else ""
            parts.append(f"{row['region']} {row['volume_ml']:.2f} ml{centile}")
    return ", ".join(parts)
