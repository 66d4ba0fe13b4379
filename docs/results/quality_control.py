"""Measure quality control on good heads and on faults made of them, and write quality_control.md.

    python docs/results/quality_control.py HEADS ...

Each folder of HEADS has T1-weighted heads, NAME_T1w.nii.gz, with their DLMUSE segmentations,
NAME_dseg.nii.gz. Rows already in quality_control.json are kept. Every second head, in the order of
their names, is in the first of two halves.
"""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
from quality_cases import REFUSED, WARNED, Head
from rich.progress import track

from uncus.data.errors import BadInput
from uncus.data.imageio.volume import read_volume
from uncus.data.mni.registration import register
from uncus.data.segmentation.labels import DLMUSE, convert
from uncus.data.segmentation.quality import measure
from uncus.data.segmentation.segmenter import segment_volume

HERE = Path(__file__).parent
KINDS = {"good": lambda head, _: head, **REFUSED, **WARNED}


def load(path: Path) -> Head:
    """A head with its labels, its bright tissue at 1."""
    scan = nib.as_closest_canonical(nib.load(path))
    numbers = nib.as_closest_canonical(nib.load(str(path).replace("_T1w", "_dseg")))
    image = np.asarray(scan.dataobj, np.float32)
    image = np.maximum(image - min(float(image.min()), 0.0), 0)
    image /= np.percentile(image[image > 0.1 * image.mean()], 98)
    affine = scan.affine.astype(float)
    return Head(image, convert(np.asarray(numbers.dataobj).astype(int), affine, DLMUSE), affine)


def row(head: Head, kind: str, seed: int) -> dict[str, object]:
    """The measures of a head with a fault, and whether it is refused or warned of."""
    made = KINDS[kind](head, np.random.default_rng(seed))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.nii.gz"
        nib.save(nib.Nifti1Image(made.image.astype(np.float32), made.affine), path)
        volume = read_volume(path)
    quality = measure(segment_volume(volume))
    answer = {name: round(float(value), 4) for name, value in asdict(quality).items()}
    try:
        answer |= {"refused": "", "warnings": [*volume.warnings, *register(volume).warnings]}
    except BadInput as error:
        answer |= {"refused": error.cause, "warnings": []}
    return answer


def page(rows: dict[str, dict[str, object]]) -> str:
    """The page's table: how many of each kind are refused and warned of, in both halves."""
    lines = []
    for kind in KINDS:
        cells = [kind]
        for half in "01":
            found = [r for key, r in rows.items() if key.startswith(f"{half}|{kind}|")]
            refused = sum(bool(r["refused"]) for r in found)
            warned = sum(bool(r["warnings"]) and not r["refused"] for r in found)
            cells.append(f"{refused} / {warned} of {len(found)}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(
        [
            "# Quality control of segmented heads",
            "",
            "Good heads, and faults made of them (`quality_cases.py`): *refused* / *warned of*",
            "when read, segmented and registered, on two halves of the heads. All were in view",
            "when the limits were chosen, so the rates are optimistic. The limits are in",
            "`data/segmentation/quality.py`, the measures in `quality_control.json`. Faults",
            "that are made are cleaner than real ones.",
            "",
            "| kind | half 0 | half 1 |",
            "| --- | --- | --- |",
            *lines,
            "",
        ]
    )


def main(folders: list[str]) -> None:
    """Measure what is missing, write the rows and the page."""
    store = HERE / "quality_control.json"
    rows = json.loads(store.read_text()) if store.exists() else {}
    paths = sorted(path for folder in folders for path in Path(folder).glob("*_T1w.nii.gz"))
    for number, path in enumerate(track(paths, "heads")):
        head = load(path)
        for place, kind in enumerate(KINDS):
            key = f"{number % 2}|{kind}|{path.name.split('_T1w')[0]}"
            if key not in rows:
                rows[key] = row(head, kind, 100 * number + place)
                store.write_text(json.dumps(rows, indent=1) + "\n")
        (HERE / "quality_control.md").write_text(page(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
