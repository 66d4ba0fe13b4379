"""Measure quality control on good heads and on faults made of them, and write quality_control.md.

    python docs/results/quality_control.py HEADS ...

Each folder has T1-weighted heads, NAME_T1w.nii.gz or DICOM series as NAME.zip. Faults are made
with their DLMUSE labels, NAME_dseg.nii.gz, or, where there are none, with our own. Rows already in
quality_control.json are kept, and the page has what is measured.
"""

import json
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from quality_cases import REFUSED, WARNED, Head
from quality_other_cases import OTHERS
from rich.progress import track

from uncus.data.files import write_json, write_text
from uncus.data.geometry.image import Image
from uncus.data.imageio.volume import read_scan
from uncus.data.mni.registration import MAX_DISTANCE
from uncus.data.segmentation import quality
from uncus.data.segmentation.labels import DLMUSE, convert
from uncus.data.segmentation.quality import BrainQuality, measure
from uncus.data.segmentation.segmenter import background_at_zero, on_scan, segment
from uncus.data.segmentation.trained import load_network

HERE = Path(__file__).parent
MEASURES = {
    "separation": ("noise, motion, blur", "contrast over noise", quality.WARN_SEPARATION, "below"),
    "enhanced": (
        "contrast agent",
        "share of the rim that is bright",
        quality.WARN_ENHANCED,
        "over",
    ),
    "ghosts": ("motion", "brightest hundredth of the air", quality.WARN_GHOSTS, "over"),
    "asymmetry": ("mass, lesion", "left - right, share of it", quality.WARN_ASYMMETRY, "over"),
    "bright": ("lesion", "largest bright region, ml", quality.WARN_BRIGHT_ML, "over"),
    "dark": ("lesion", "largest dark region, ml", quality.WARN_DARK_ML, "over"),
    "hole": ("lesion", "largest hole, ml", quality.WARN_HOLE_ML, "over"),
}
# The registration warns of cuts, see registration.md.
KINDS = {"good": lambda head, _: head} | {
    kind: fault for kind, fault in (WARNED | OTHERS | REFUSED).items() if not kind.startswith("cut")
}
FIRST = ["good", *REFUSED, *WARNED]  # seeds of both simulations


def load(path: Path) -> Head:
    """A head with its labels, its bright tissue at 1."""
    volume = read_scan([path])
    image = background_at_zero(volume).array
    image = image / np.percentile(image[image > 0.1 * image.mean()], 98)
    known = Path(str(path).replace("_T1w", "_dseg"))
    if known != path and known.exists():
        numbers = nib.as_closest_canonical(nib.load(known))
        labels = convert(np.asarray(numbers.dataobj).astype(int), volume.affine, DLMUSE)
    else:
        labels = on_scan(segment(background_at_zero(volume)), volume).labels
    return Head(image.astype(np.float32), labels, volume.affine)


def row(head: Head, kind: str, number: int) -> dict[str, float]:
    """The measures of a head with a fault, and how far its labels are from the template's."""
    other = [7, number, list(OTHERS).index(kind)] if kind in OTHERS else None
    made = KINDS[kind](head, np.random.default_rng(other or 100 * number + FIRST.index(kind)))
    # Without the boxes of the hippocampi, of which quality control makes no use.
    brain = segment(Image(made.image.astype(np.float32), made.affine), load_network("head"))
    found = {**asdict(measure(brain)), "distance": brain.match.distance}
    # Without a brain the distance is infinite, which JSON does not know.
    return {name: round(min(float(value), 1000.0), 4) for name, value in found.items()}


def verdict(found: dict[str, float]) -> tuple[bool, tuple[str, ...]]:
    """Whether a head with these measures is refused, and what it is warned of."""
    measured = BrainQuality(**{field.name: found[field.name] for field in fields(BrainQuality)})
    measured = replace(measured, structures=int(measured.structures))
    return bool(measured.refusal) or not found["distance"] <= MAX_DISTANCE, measured.warnings


def page(rows: dict[str, dict[str, float]], folders: list[str]) -> str:
    """The page: how many of each kind are refused and warned of in each folder."""
    lines = []
    for kind in KINDS:
        cells = [kind]
        for folder in folders:
            found = [verdict(r) for key, r in rows.items() if key.startswith(f"{folder}|{kind}|")]
            refused = sum(one for one, _ in found)
            warned = sum(bool(warnings) and not one for one, warnings in found)
            cells.append(f"{refused} / {warned} of {len(found)}" if found else "")
        lines.append(f"| {' | '.join(cells)} |")
    good = [found for key, found in rows.items() if "|good|" in key]
    measures = []
    for name, (warning, meaning, limit, least) in MEASURES.items():
        values = [found[name] for found in good]
        cells = (warning, meaning, f"{min(values):.3g} to {max(values):.3g}", f"{least} {limit}")
        measures.append(f"| {' | '.join(cells)} |")
    template = (HERE / "quality_control.template.md").read_text()
    parts = {"rows": "\n".join(lines), "measures": "\n".join(measures)}
    heads = {"folders": " | ".join(folders), "bars": " | ".join(["---"] * len(folders))}
    return template.format(**parts, **heads)


def main(folders: list[str]) -> None:
    """Measure what is missing, write the rows and the page."""
    store = HERE / "quality_control.json"
    rows = json.loads(store.read_text()) if store.exists() else {}
    names = [Path(folder).name for folder in folders]
    found = [[*Path(one).glob("*_T1w.nii.gz"), *Path(one).glob("*.zip")] for one in folders]
    places = {path: place for part in found for place, path in enumerate(sorted(part))}
    paths = list(places)
    numbers = {path: number for number, path in enumerate(paths)}
    # Good heads first, then the first head of each folder, the second, ...
    paths.sort(key=lambda path: (places[path], path.parent.name))
    steps = [(path, ["good"]) for path in paths] + [(path, list(KINDS)) for path in paths]
    for path, kinds in track(steps, "heads"):
        name = path.name.split("_T1w")[0].removesuffix(".zip")
        keys = {f"{path.parent.name}|{kind}|{name}": kind for kind in kinds}
        head = load(path) if keys.keys() - rows else None
        for key, kind in keys.items():
            if head and key not in rows:
                rows[key] = row(head, kind, numbers[path])
                write_json(store, rows)
        write_text(HERE / "quality_control.md", page(rows, names))


if __name__ == "__main__":
    main(sys.argv[1:])
