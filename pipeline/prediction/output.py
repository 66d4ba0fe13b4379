"""Write and print predictions and explanations."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from uncus import NOTICE
from uncus.data import atlas, files
from uncus.data.imageio.writer import native_array, write_native
from uncus.data.tables import write_table
from uncus.data.text import displayed
from uncus.pipeline.prediction.results import Explanation, Prediction
from uncus.pipeline.rendering.slices import three_planes


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
    """Write prediction.json and the files of `write_map` to ``folder``.

    Returns the content of prediction.json: the prediction, the map's method, and "regions", or
    "no_regions" with the reason.
    """
    regions = write_map(folder, explanation)
    answer = explanation.prediction.as_dict() | {"saliency": explanation.method, **regions}
    files.write_json(folder / "prediction.json", answer)
    return answer


def table_row(name: str, answer: dict[str, Any]) -> dict[str, Any]:
    """A prediction (the content of prediction.json) as a row of predictions.tsv."""
    kind, outputs = (
        ("p", answer["probabilities"]) if "label" in answer else ("pred", answer["values"])
    )
    return {
        "scan": displayed(name),
        "label": answer.get("label", ""),
        **{f"{kind}_{name}": value for name, value in outputs.items()},
        **{f"spread_{name}": value for name, value in answer["spread"].items()},
        "warnings": "; ".join(answer["warnings"]),
    }


def write_predictions(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write predictions.tsv, one row per scan; a scan without a prediction has its error there."""
    table = pd.DataFrame(rows).fillna("")
    write_table(folder / "predictions.tsv", table)


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
    rows = atlas.regions(placed, saliency)
    write_table(folder / f"atlas{suffix}.tsv", pd.DataFrame(rows))
    return {"regions": rows, "atlas": atlas.CREDIT}


def figure(explanation: Explanation) -> Figure:
    """Three planes of the scan with the map overlaid."""
    volume = explanation.prediction.placed.volume
    return three_planes(
        volume.array,
        volume.affine,
        explanation.on_scan,
        title=caption(explanation),
        label=explanation.method,
        note=NOTICE,
    )


def caption(explanation: Explanation) -> str:
    """The title of a saliency figure: the scan, and the output that the map explains."""
    prediction, name = explanation.prediction, explanation.name
    if prediction.probabilities:
        share = prediction.probabilities[name]
        return f"{prediction.scan}: evidence for {name}, P = {share:.2f}"
    return f"{prediction.scan}: what raises {name}, estimated {prediction.values[name]:.4g}"


def sentence(prediction: Prediction) -> str:
    """The prediction as one line of text, its warnings below."""
    if prediction.probabilities:
        shares = prediction.probabilities.items()
        outputs = "  ".join(f"{n} {p:.3f} ± {prediction.spread[n]:.3f}" for n, p in shares)
    else:
        values = prediction.values.items()
        outputs = "  ".join(f"{n} {v:.4g} ± {prediction.spread[n]:.2g}" for n, v in values)
    lines = [f"{prediction.scan}: {outputs}  (± over {len(prediction.members)} networks) {NOTICE}"]
    return "\n".join([*lines, *(f"  warning: {warning}" for warning in prediction.warnings)])
