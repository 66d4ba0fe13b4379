"""Measures the registration to ICBM152 against a segmented head, and writes registration.md.

    python docs/results/registration.py T1W SEGMENTATION

T1W is a whole head, SEGMENTATION labels on the same grid, above 0 in the brain (FreeSurfer's aseg).
The brain is taken as the labels closed by 3 voxels and filled. The head is then spoilt in several
ways, each written to a file and read again as a user's scan would be.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.processing import conform, resample_from_to
from rich.progress import track
from scipy import ndimage

from data.image import Image, coarser, points
from data.mni import register
from data.template import load_template
from data.volume import read_volume

HERE = Path(__file__).parent
Pair = tuple[Any, Any]
"""A head and its brain's mask, nibabel images on one grid."""


def truth(labels: Any) -> Any:
    """The brain's mask from the labels."""
    ball = ndimage.generate_binary_structure(3, 1)
    closed = ndimage.binary_closing(np.asarray(labels.dataobj) > 0, ball, iterations=3)
    filled = ndimage.binary_fill_holes(closed).astype(np.uint8)
    return nib.Nifti1Image(filled, labels.affine)


def changed(head: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """The head with other intensities."""
    values = change(head.get_fdata(dtype=np.float32))
    return nib.Nifti1Image(values.astype(np.float32), head.affine)


def biased(values: np.ndarray) -> np.ndarray:
    """Intensities that fall to half and rise by half across the head."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in values.shape), indexing="ij")
    return values * np.exp(0.4 * x - 0.3 * y * z + 0.2 * z)


def noisy(values: np.ndarray) -> np.ndarray:
    """Rician noise of a tenth of the bright tissue."""
    rng = np.random.default_rng(0)
    sigma = 0.1 * np.percentile(values, 98)
    real, imaginary = rng.normal(0, sigma, (2, *values.shape))
    return np.hypot(values + real, imaginary)


def turned(pair: Pair, degrees: float, axis: int) -> Pair:
    """Head turned under a grid that stays, as a tilted patient is."""
    angle, affine = np.deg2rad(degrees), pair[0].affine
    a, b = [k for k in range(3) if k != axis]
    turn = np.eye(4)
    turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    centre = affine @ [*(np.array(pair[0].shape) / 2), 1]
    shift = np.eye(4)
    shift[:3, 3] = centre[:3]
    moved = shift @ turn @ np.linalg.inv(shift) @ affine
    return (
        resample_from_to(nib.Nifti1Image(pair[0].dataobj, moved), pair[0], order=1),
        resample_from_to(nib.Nifti1Image(pair[1].dataobj, moved), pair[0], order=0),
    )


def oriented(pair: Pair, code: str) -> Pair:
    """The same head stored in another voxel order."""
    wanted = nib.orientations.axcodes2ornt(code)
    here = nib.io_orientation(pair[0].affine)
    to = nib.orientations.ornt_transform(here, wanted)
    return pair[0].as_reoriented(to), pair[1].as_reoriented(to)


def cropped(pair: Pair, millimetres: float) -> Pair:
    """The lowest part of the field of view cut away."""
    head, brain = (nib.as_closest_canonical(image) for image in pair)
    lost = round(millimetres / float(head.header.get_zooms()[2]))
    return head.slicer[:, :, lost:], brain.slicer[:, :, lost:]


def coarse(pair: Pair, spacing: tuple[float, float, float]) -> Pair:
    """Thicker voxels."""
    shape = tuple(np.ceil(np.array(pair[0].shape) / np.array(spacing)).astype(int))
    head = conform(pair[0], shape, spacing, order=1)
    return head, resample_from_to(pair[1], head, order=0)


def stripped(pair: Pair) -> Pair:
    """The brain alone."""
    values = np.where(np.asarray(pair[1].dataobj) > 0, pair[0].get_fdata(dtype=np.float32), 0)
    return nib.Nifti1Image(values, pair[0].affine), pair[1]


def variants(pair: Pair) -> dict[str, Callable[[], Pair]]:
    """Every way in which the head is spoilt."""
    head, brain = pair
    return {
        "as it is": lambda: pair,
        **{f"stored {code}": lambda c=code: oriented(pair, c) for code in ("RAS", "LPI", "PSR")},
        "20 mm cut off below": lambda: cropped(pair, 20),
        "2 mm voxels": lambda: coarse(pair, (2, 2, 2)),
        "1 x 1 x 3 mm voxels": lambda: coarse(pair, (1, 1, 3)),
        "bias field": lambda: (changed(head, biased), brain),
        "noise": lambda: (changed(head, noisy), brain),
        **{
            f"turned by 30 degrees about {name}": lambda a=axis: turned(pair, 30, a)
            for axis, name in enumerate("xyz")
        },
        "brain alone": lambda: stripped(pair),
    }


def dice(one: np.ndarray, two: np.ndarray) -> float:
    """Overlap of two masks."""
    return float(2 * np.count_nonzero(one & two) / (one.sum() + two.sum()))


def measure(pair: Pair, folder: Path) -> dict[str, Any]:
    """Dice of the extracted brain and of the template's brain carried to the scan."""
    for image, name in zip(pair, ("head", "brain"), strict=True):
        nib.save(image, folder / f"{name}.nii.gz")
    began, computed = time.perf_counter(), time.process_time()
    volume = read_volume(folder / "head.nii.gz")
    try:
        found = register(volume)
    except ValueError as error:
        return {"refused": str(error).split(": ", 1)[-1]}
    spent = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - computed}
    brain = read_volume(folder / "brain.nii.gz").array > 0
    template = load_template()
    soft = coarser(Image(template.brain.astype(np.float32), template.affine), 2.0)
    places = found.to_mni[:3, :3] @ points(brain.shape, volume.affine) + found.to_mni[:3, 3:]
    carried = soft.at(places).reshape(brain.shape) > 0.5
    return {
        "mask": dice(found.mask, brain),
        "template": dice(carried, brain),
        "overlap": found.overlap,
        "similarity": found.similarity,
        **spent,
    }


def main(head: str, labels: str) -> None:
    """Measure every variant and write the page."""
    pair = (nib.load(head), truth(nib.load(labels)))
    began = time.perf_counter()
    load_template()
    loading = time.perf_counter() - began
    results = {}
    for name, make in track(variants(pair).items(), "heads"):
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(make(), Path(folder))
        print(name, results[name], flush=True)
    (HERE / "registration.json").write_text(
        json.dumps({"template_seconds": loading, "heads": results}, indent=1) + "\n"
    )
    rows = [
        f"| {name} | refused: {r['refused']} |  |  |  |  |"
        if "refused" in r
        else f"| {name} | {r['mask']:.3f} | {r['template']:.3f} | {r['overlap']:.2f} | "
        f"{r['similarity']:.2f} | {r['seconds']:.0f} |"
        for name, r in results.items()
    ]
    template = (HERE / "registration.template.md").read_text()
    page = template.format(rows="\n".join(rows), loading=f"{loading:.0f}")
    (HERE / "registration.md").write_text(page)
    print(HERE / "registration.md")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
