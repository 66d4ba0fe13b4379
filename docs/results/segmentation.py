"""Measure the segmentation and the registration against heads segmented by others.

    python docs/results/segmentation.py HEADS

HEADS has the folders ``elderly-heads`` and ``ixi-heads`` (``*_T1w.nii.gz`` with ``*_dseg.nii.gz``
in DLMUSE's numbers) and ``heads`` (``aomic-0001_T1w.nii.gz`` with FreeSurfer's ``_aseg.nii.gz``).
None of them trained the network. Writes segmentation.json and segmentation.md beside this file, and
into the package the lines that lead from our volumes to DLMUSE's, by which centiles are defined.
"""

import sys
import time
from pathlib import Path
from typing import Any

import heads as made
import nibabel as nib
import numpy as np
from rich.progress import track

from uncus.data.errors import BadInput
from uncus.data.files import write_json
from uncus.data.geometry.image import Image, points
from uncus.data.imageio.volume import read_volume
from uncus.data.mni.registration import register
from uncus.data.mni.template import load_template
from uncus.data.segmentation import correction
from uncus.data.segmentation.labels import DLMUSE, FREESURFER, convert
from uncus.data.segmentation.segmentation import Segmentation
from uncus.data.segmentation.segmenter import on_scan, segment_volume
from uncus.data.segmentation.trained import method

HERE = Path(__file__).parent
SETS = {"elderly-heads": DLMUSE, "ixi-heads": DLMUSE, "heads": FREESURFER}
STRUCTURES = {"hippocampus": 12, "amygdala": 14, "lateral ventricle": 10, "thalamus": 16}


def dice(one: np.ndarray, two: np.ndarray) -> float:
    """Dice overlap of two masks."""
    return round(float(2 * (one & two).sum() / max(int(one.sum()) + int(two.sum()), 1)), 3)


def measure(folder: str, path: Path) -> dict[str, Any]:
    """What one head gives."""
    ending = "_aseg" if folder == "heads" else "_dseg"
    reference = nib.as_closest_canonical(nib.load(str(path).replace("_T1w", ending)))
    known = np.asarray(reference.dataobj).astype(int)
    labels = convert(known, reference.affine, SETS[folder])
    # The skull's inside, without the slits between labels.
    inside = np.asarray(made.brain_mask(reference).dataobj) > 0
    row: dict[str, Any] = {"set": folder, "scan": path.name.split("_T1w")[0]}
    volume = read_volume(path)
    began = time.process_time()
    try:
        result = register(volume)
    except BadInput as error:
        return row | {"refused": str(error)}
    ours = on_scan(segment_volume(volume), volume)
    row["cpu"] = round(time.process_time() - began, 1)
    template = load_template()
    at = points(inside.shape, result.to_mni @ reference.affine)
    mapped = Image(template.brain.astype(np.float32), template.affine).at(at) > 0.5
    row |= {
        "brain": dice(result.mask, inside),
        "template": dice(mapped.reshape(inside.shape), inside),
        "distance": round(float(result.distance or 0), 2),
        "overlap": round(result.overlap, 3),
        "warnings": list(result.warnings),
    }
    for name, left in STRUCTURES.items():
        row[name] = [dice(ours.labels == k, labels == k) for k in (left, left + 1)]
    theirs = Segmentation.from_labels(labels, reference.affine, "reference")
    row["volumes"], row["reference"] = dict(ours.volumes), dict(theirs.volumes)
    return row


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """The page's tables."""
    lines = [
        "| scan | brain | template | hippocampus | amygdala | lateral ventricle | hippocampi ml "
        "(theirs) | ventricles ml (theirs) | CPU s | warnings |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if "refused" in row:
            lines.append(f"| {row['scan']} | refused: {row['refused']} |" + " |" * 8)
            continue
        pairs = []
        for name in ("hippocampus", "lateral ventricle"):
            both = [
                sum(row[kind][f"{side} {name}"] for side in ("left", "right"))
                for kind in ("volumes", "reference")
            ]
            pairs.append(f"{both[0]:.1f} ({both[1]:.1f})")
        sides = [
            f"{row[name][0]:.2f}, {row[name][1]:.2f}"
            for name in ("hippocampus", "amygdala", "lateral ventricle")
        ]
        cells = [row["scan"], row["brain"], row["template"], *sides, *pairs, row["cpu"]]
        cells.append(" ".join(row["warnings"]))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main() -> None:
    base = Path(sys.argv[1])
    found = [
        (folder, path)
        for folder in SETS
        for path in sorted((base / folder).glob("*_T1w.nii.gz"))
        if folder != "heads" or path.name.startswith("aomic")
    ]
    rows = [measure(folder, path) for folder, path in track(found, "Heads")]
    pairs = [
        (row["volumes"], row["reference"])
        for row in rows
        if row["set"] != "heads" and "refused" not in row
    ]
    lines = correction.fit([ours for ours, _ in pairs], [theirs for _, theirs in pairs])
    correction.save(method(), lines)
    write_json(HERE / "segmentation.json", {"method": method(), "heads": rows})
    table = [
        "| structure | people | r | mean error after the correction |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {line.people} | {line.r:.3f} | {line.error:.1%} |"
            for name, line in lines.items()
        ),
    ]
    text = (HERE / "segmentation.template.md").read_text()
    text = text.replace("{heads}", "\n".join(summary(rows))).replace("{lines}", "\n".join(table))
    (HERE / "segmentation.md").write_text(text)


if __name__ == "__main__":
    main()
