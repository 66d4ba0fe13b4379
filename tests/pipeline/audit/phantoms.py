"""Small phantoms with planted faults."""

from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from uncus.pipeline.cli import main

OPTIONS = ["--spacing", "4", "--workers", "1"]


def make(out: Path, subjects: int, *options: str) -> Path:
    """A cohort of phantoms as a BIDS folder."""
    assert main(["phantom", str(out), "--subjects", str(subjects), *OPTIONS, *options]) == 0
    return out


def prepare(source: Path, out: Path) -> Path:
    """The same, prepared."""
    assert main(["prepare", str(source), str(out), *OPTIONS]) == 0
    return out


def disguise(source: Path, name: str, copy: str, into: Path | None = None) -> Path:
    """Add a scan of a subject under another name: turned, shifted, resampled, with noise.

    It is added to ``into``, by default the cohort itself.
    """
    into = into or source
    image = nibabel.as_closest_canonical(
        nibabel.load(source / name / "anat" / f"{name}_T1w.nii.gz")
    )
    array, old = np.asarray(image.dataobj, float), float(image.affine[0, 0])
    new, turn = 3.3, np.radians(2.0)
    matrix = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    shape = np.ceil(np.array(array.shape) * old / new).astype(int)
    middle = (np.array(array.shape) - 1) * old / 2
    offset = middle - matrix @ middle + [3.0, -2.0, 4.0]
    moved = ndimage.affine_transform(
        array, matrix * new / old, offset / old, output_shape=tuple(shape), order=1
    )
    brain = moved > 0.5 * array[array > 0].min()
    noise = 0.05 * array[array > 0].mean() * np.random.default_rng(0).standard_normal(shape)
    stored = np.where(brain, np.clip(1.3 * (moved + noise), 1, None), 0).astype(np.int16)
    affine = np.diag([new, new, new, 1.0])
    affine[:3, 3] = image.affine[:3, 3]
    folder = into / copy / "anat"
    folder.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(stored, affine), folder / f"{copy}_T1w.nii.gz")
    lines = (source / "participants.tsv").read_text().splitlines()
    row = next(line for line in lines if line.startswith(name)).replace(name, copy)
    with (into / "participants.tsv").open("a") as table:
        table.write(row + "\n")
    return into
