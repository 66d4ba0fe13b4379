"""Measures the registration to ICBM152 against a segmented head, and writes registration.md.

    python docs/results/registration.py T1W SEGMENTATION [ROW ...]

T1W is a whole head, SEGMENTATION labels on the same grid, above 0 in the brain (FreeSurfer's aseg).
The brain is taken as the labels closed by 3 voxels and filled. The head is then made into others
(see heads.py), each written to a file and read again as a user's scan would be. Rows that
registration.json holds already are kept, but for those that are named.
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
    LEAST_CONTRAST,
    LEAST_LIKENESS,
    LEAST_OVERLAP,
    LEAST_SIMILARITY,
    register,
)
from uncus.data.mni.template import load_template

HERE = Path(__file__).parent
KINDS = ("aged", "good", "bad")


def dice(one: np.ndarray, two: np.ndarray) -> float:
    """Overlap of two masks."""
    return float(2 * np.count_nonzero(one & two) / max(int(one.sum()) + int(two.sum()), 1))


def measure(kind: str, name: str, head: str, labels: str) -> dict[str, Any]:
    """Dice of the extracted brain and of the template's brain carried to the scan."""
    load_template()
    images = [nib.as_closest_canonical(nib.load(path)) for path in (head, labels)]
    pair = (images[0], heads.truth(images[1]))
    made, brain = getattr(heads, kind)(pair, images[1])[name]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.nii.gz"
        values = heads.values_of(made)
        scale = 2000 / max(float(np.percentile(values, 99.9)), 1e-6)
        nib.save(nib.Nifti1Image(np.rint(values * scale).astype(np.int16), made.affine), path)
        began = time.process_time()
        try:
            volume = read_volume(path)
            found = register(volume)
        except ValueError as error:
            return {"kind": kind, "refused": str(error).split(": ", 1)[-1].split(";")[0]}
        spent = time.process_time() - began
        flags = nib.as_closest_canonical(brain)
        mask = heads.flags_of(flags)
    template = load_template()
    soft = coarser(Image(template.brain.astype(np.float32), template.affine), 2.0)
    places = points(mask.shape, volume.affine)
    carried = covered(soft, places, found.to_mni).reshape(mask.shape) > 0.5
    known = best(soft, places, found.to_mni, mask) if kind == "aged" or name == "as it is" else None
    return {
        "kind": kind,
        "mask": dice(found.mask, mask),
        "template": dice(carried, mask),
        "best": known,
        "overlap": found.overlap,
        "similarity": found.similarity,
        "likeness": found.likeness,
        "contrast": found.contrast,
        "seen": found.seen,
        "warnings": [*volume.warnings, *found.warnings, *image_quality.measure(volume).warnings],
        "cpu": spent,
    }


def covered(soft: Image, places: np.ndarray, to_mni: np.ndarray) -> np.ndarray:
    """How much of the template's brain lies at ``places`` [3, N] of the scan, 0 to 1."""
    return soft.at(to_mni[:3, :3] @ places + to_mni[:3, 3:]).ravel()


def best(soft: Image, places: np.ndarray, start: np.ndarray, mask: np.ndarray) -> float:
    """The template's Dice under the affine that fits the known brain best, found from ``start``.

    No registration that sees only the picture can do better: what is missing is not affine.
    """
    few = np.zeros(mask.shape, bool)
    few[::4, ::4, ::4] = True
    some, inside = places[:, few.ravel()], mask[few]
    centre = np.eye(4)
    centre[:3, 3] = some[:, inside].mean(1)

    def changed(change: np.ndarray) -> np.ndarray:
        small = np.eye(4)
        small[:3, :3] += 0.01 * change[:9].reshape(3, 3)
        small[:3, 3] = change[9:]
        return start @ centre @ small @ np.linalg.inv(centre)

    def loss(change: np.ndarray) -> float:
        share = np.clip(covered(soft, some, changed(change)), 0, 1)
        return -2 * float(share[inside].sum()) / float(share.sum() + inside.sum())

    found = optimize.minimize(loss, np.zeros(12), method="Powell", options={"maxiter": 6})
    return dice(covered(soft, places, changed(found.x)).reshape(mask.shape) > 0.5, mask)


def row(name: str, r: dict[str, Any]) -> str:
    """A line of the page's table."""
    if "refused" in r:
        return f"| {name} |  |  |  |  |  |  |  | refused: {r['refused']} |"
    said = " ".join(r["warnings"])
    known = f"{r['best']:.3f}" if r.get("best") else ""
    return (
        f"| {name} | {r['mask']:.3f} | {r['template']:.3f} | {known} | {r['overlap']:.2f} | "
        f"{r['similarity']:.2f} | {r['likeness']:.2f} | {r['cpu']:.0f} | {said} |"
    )


def main(head: str, labels: str, again: list[str]) -> None:
    """Measure every head that is not measured yet, and write the page."""
    kept = HERE / "registration.json"
    results: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
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
            kept.write_text(json.dumps(ordered, indent=1) + "\n")
    parts = {
        kind: "\n".join(row(n, r) for n, r in ordered.items() if r["kind"] == kind)
        for kind in KINDS
    }
    page = (HERE / "registration.template.md").read_text().format(**parts, **margins(ordered))
    (HERE / "registration.md").write_text(page)
    print(HERE / "registration.md")


def margins(results: dict[str, dict[str, Any]]) -> dict[str, str]:
    """How far the heads that should pass lie from the limits."""
    passed = [r for r in results.values() if r["kind"] != "bad" and "refused" not in r]
    lost = [n for n, r in results.items() if r["kind"] != "bad" and "refused" in r]
    told = {
        f"least_{key}": f"{min(r[key] for r in passed):.2f}"
        for key in ("overlap", "similarity", "likeness", "contrast")
    }
    poor = [r for r in passed if min(r["mask"], r["template"]) <= 0.92]
    silent = [r for r in poor if not r["warnings"]]
    return told | {
        "limits": f"{LEAST_OVERLAP:.2f}, {LEAST_SIMILARITY:.2f}, {LEAST_LIKENESS:.2f} and "
        f"{LEAST_CONTRAST:.2f}",
        "passed": str(len(passed)),
        "lost": ", ".join(lost) or "none",
        "above": str(len(passed) - len(poor)),
        "silent": str(len(silent)),
    }


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
