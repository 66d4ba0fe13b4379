"""Measure the registration to ICBM152 against a segmented head, and write registration.md.

    python docs/results/registration.py T1W SEGMENTATION [ROW ...]

T1W is a whole head, SEGMENTATION labels on the same grid, above 0 in the brain (FreeSurfer's aseg).
The brain mask is the labels, closed by 3 voxels and filled. The head is then transformed into
others (see heads.py), each written to a file and read again as a user's scan would be. Rows already
in registration.json are kept, except for those named on the command line.
"""

import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import heads
import nibabel as nib
import numpy as np
from rich.progress import track
from scipy import optimize

from uncus.data import image_quality
from uncus.data.geometry.image import Image, coarser, points
from uncus.data.imageio.volume import read_volume
from uncus.data.mni.registration import (
    MAX_DISTANCE,
    MIN_OVERLAP,
    MIN_SIMILARITY,
    register,
)
from uncus.data.mni.template import load_template

HERE = Path(__file__).parent
KINDS = ("aged", "good", "bad")


def dice(one: np.ndarray, two: np.ndarray) -> float:
    """Dice overlap of two masks."""
    return float(2 * np.count_nonzero(one & two) / max(int(one.sum()) + int(two.sum()), 1))


def measure(kind: str, name: str, head: str, labels: str) -> dict[str, Any]:
    """Dice of the extracted brain, and of the template's brain mapped to the scan."""
    load_template()
    images = [nib.as_closest_canonical(nib.load(path)) for path in (head, labels)]
    pair = (images[0], heads.brain_mask(images[1]))
    head_image, brain = getattr(heads, kind)(pair, images[1])[name]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.nii.gz"
        values = heads.values_of(head_image)
        scale = 2000 / max(float(np.percentile(values, 99.9)), 1e-6)
        nib.save(nib.Nifti1Image(np.rint(values * scale).astype(np.int16), head_image.affine), path)
        began = time.process_time()
        try:
            volume = read_volume(path)
            result = register(volume)
        except ValueError as error:
            return {"kind": kind, "refused": str(error).split(": ", 1)[-1].split(";")[0]}
        spent = time.process_time() - began
        mask = heads.mask_of(nib.as_closest_canonical(brain))
    template = load_template()
    soft = coarser(Image(template.brain.astype(np.float32), template.affine), 2.0)
    voxels = points(mask.shape, volume.affine)
    mapped = template_share(soft, voxels, result.to_mni).reshape(mask.shape) > 0.5
    with_best = kind == "aged" or name == "as it is"
    return {
        "kind": kind,
        "mask": dice(result.mask, mask),
        "template": dice(mapped, mask),
        "best": best(soft, voxels, result.to_mni, mask) if with_best else None,
        "overlap": result.overlap,
        "similarity": result.similarity,
        "distance": result.distance,
        "contrast": result.contrast,
        "seen": result.coverage,
        "warnings": [*volume.warnings, *result.warnings, *image_quality.measure(volume).warnings],
        "cpu": spent,
    }


def template_share(soft: Image, voxels: np.ndarray, to_mni: np.ndarray) -> np.ndarray:
    """Share of the template's brain at ``voxels`` [3, N] (scan mm), 0 to 1."""
    return soft.at(to_mni[:3, :3] @ voxels + to_mni[:3, 3:]).ravel()


def best(soft: Image, voxels: np.ndarray, start: np.ndarray, mask: np.ndarray) -> float:
    """The template's Dice under the affine that fits the known mask best, optimized from ``start``.

    An upper bound for any affine registration, since that does not know the mask.
    """
    few = np.zeros(mask.shape, bool)
    few[::4, ::4, ::4] = True
    some, inside = voxels[:, few.ravel()], mask[few]
    center = np.eye(4)
    center[:3, 3] = some[:, inside].mean(1)

    def changed(change: np.ndarray) -> np.ndarray:
        small = np.eye(4)
        small[:3, :3] += 0.01 * change[:9].reshape(3, 3)
        small[:3, 3] = change[9:]
        return start @ center @ small @ np.linalg.inv(center)

    def loss(change: np.ndarray) -> float:
        share = np.clip(template_share(soft, some, changed(change)), 0, 1)
        return -2 * float(share[inside].sum()) / float(share.sum() + inside.sum())

    fit = optimize.minimize(loss, np.zeros(12), method="Powell", options={"maxiter": 6})
    return dice(template_share(soft, voxels, changed(fit.x)).reshape(mask.shape) > 0.5, mask)


def row(name: str, r: dict[str, Any]) -> str:
    """A line of the page's table."""
    if "refused" in r:
        return f"| {name} |  |  |  |  |  |  |  | rejected: {r['refused']} |"
    warnings = " ".join(r["warnings"])
    known = f"{r['best']:.3f}" if r.get("best") else ""
    return (
        f"| {name} | {r['mask']:.3f} | {r['template']:.3f} | {known} | {r['overlap']:.2f} | "
        f"{r['similarity']:.2f} | {r['distance']:.1f} | {r['cpu']:.0f} | {warnings} |"
    )


def main(head: str, labels: str, again: list[str]) -> None:
    """Measure every head that is not measured yet, and write the page."""
    path = HERE / "registration.json"
    results: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    images = [nib.load(path) for path in (head, labels)]
    names = {name: kind for kind in KINDS for name in getattr(heads, kind)(images, images[1])}
    todo = [name for name in names if name not in results or name in again]
    ordered = {name: results[name] for name in names if name in results}
    with ProcessPoolExecutor(2) as pool:
        jobs = {pool.submit(measure, names[n], n, head, labels): n for n in todo}
        for job in track(as_completed(jobs), "heads", len(jobs)):
            results[jobs[job]] = job.result()
            print(row(jobs[job], job.result()), flush=True)
            ordered = {name: results[name] for name in names if name in results}
            path.write_text(json.dumps(ordered, indent=1) + "\n")
    parts = {
        kind: "\n".join(row(n, r) for n, r in ordered.items() if r["kind"] == kind)
        for kind in KINDS
    }
    page = (HERE / "registration.template.md").read_text().format(**parts, **margins(ordered))
    (HERE / "registration.md").write_text(page)
    print(HERE / "registration.md")


def margins(results: dict[str, dict[str, Any]]) -> dict[str, str]:
    """How far the heads that should register are from the limits."""
    passed = [r for r in results.values() if r["kind"] != "bad" and "refused" not in r]
    lost = [n for n, r in results.items() if r["kind"] != "bad" and "refused" in r]
    least = {
        f"least_{key}": f"{min(r[key] for r in passed):.2f}" for key in ("overlap", "similarity")
    }
    least["most_distance"] = f"{max(r['distance'] for r in passed):.1f}"
    poor = [r for r in passed if min(r["mask"], r["template"]) <= 0.92]
    silent = [r for r in poor if not r["warnings"]]
    return least | {
        "limits": f"{MIN_OVERLAP:.2f}, {MIN_SIMILARITY:.2f} and {MAX_DISTANCE:.1f} mm",
        "passed": str(len(passed)),
        "lost": ", ".join(lost) or "none",
        "above": str(len(passed) - len(poor)),
        "silent": str(len(silent)),
    }


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
