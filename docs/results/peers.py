"""Compare registration and brain extraction with SimpleITK and brainextractor on the same heads.

    pip install brainextractor
    python docs/results/peers.py HEADS

HEADS as for segmentation.py, whose results are taken from segmentation.json. SimpleITK: rigid, then
affine, by mutual information on three levels near the template's brain (it has no head around it),
from the centers of mass and from those of the arrays, whichever ends better; the template's brain
is mapped to the scan. brainextractor: FSL's BET in Python, as its command does. Rows already in
peers.json are kept. Writes peers.json and peers.md beside this file.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import heads as made
import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from rich.progress import track
from segmentation import SETS, dice

from uncus.data.files import write_json
from uncus.data.mni.template import load_template

HERE = Path(__file__).parent


def reference(path: Path, folder: str) -> nib.Nifti1Image:
    """The brain by the reference's labels, as in segmentation.py."""
    ending = "_aseg" if folder == "heads" else "_dseg"
    return made.brain_mask(nib.as_closest_canonical(nib.load(str(path).replace("_T1w", ending))))


def fit(
    scan: sitk.Image, moving: sitk.Image, near: sitk.Image, center: int
) -> tuple[float, sitk.Transform]:
    """The metric (least is best) and the affine transform after one start."""
    rigid = sitk.CenteredTransformInitializer(scan, moving, sitk.Euler3DTransform(), center)
    affine = sitk.AffineTransform(3)
    for transform, rate in ((rigid, 2.0), (affine, 1.0)):
        if transform is affine:
            known = sitk.Euler3DTransform(rigid)
            affine.SetMatrix(known.GetMatrix())
            affine.SetTranslation(known.GetTranslation())
            affine.SetCenter(known.GetCenter())
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(50)
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(0.1)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetMetricMovingMask(near)
        method.SetOptimizerAsRegularStepGradientDescent(rate, 1e-3, 200)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([4, 2, 1])
        method.SetSmoothingSigmasPerLevel([4, 2, 1])
        method.SetInitialTransform(transform, True)
        method.Execute(scan, moving)
    return method.GetMetricValue(), affine


def simpleitk(path: Path, brain: nib.Nifti1Image, folder: Path) -> float:
    """Dice of the template's brain after SimpleITK's affine registration."""
    template = load_template()
    for name, array in (("t1", template.t1), ("brain", template.brain)):
        values = np.nan_to_num(array).astype(np.float32)
        nib.save(nib.Nifti1Image(values, template.affine), folder / f"{name}.nii")
    nib.save(nib.Nifti1Image(np.asarray(brain.dataobj, np.float32), brain.affine), folder / "m.nii")
    moving, mask, scan, grid = (
        sitk.ReadImage(str(one), sitk.sitkFloat32)
        for one in (folder / "t1.nii", folder / "brain.nii", path, folder / "m.nii")
    )
    filters = sitk.CenteredTransformInitializerFilter
    near = sitk.BinaryDilate(sitk.Cast(mask > 0.5, sitk.sitkUInt8), (4, 4, 4))
    found = [fit(scan, moving, near, center) for center in (filters.MOMENTS, filters.GEOMETRY)]
    _, transform = min(found, key=lambda one: one[0])
    mapped = sitk.Resample(mask, grid, transform, sitk.sitkLinear, 0.0)
    return dice(sitk.GetArrayFromImage(mapped) > 0.5, sitk.GetArrayFromImage(grid) > 0)


def brainextractor(path: Path, brain: nib.Nifti1Image, folder: Path) -> float | str:
    """Dice of brainextractor's brain, or what it said."""
    command = shutil.which("brainextractor") or "brainextractor"
    process = subprocess.run(
        [command, path, folder / "be.nii.gz"], capture_output=True, text=True, check=False
    )
    if process.returncode:
        return process.stderr.strip().splitlines()[-1]
    found = nib.as_closest_canonical(nib.load(folder / "be.nii.gz"))
    return dice(np.asarray(found.dataobj) > 0, np.asarray(brain.dataobj) > 0)


def row(path: Path, folder: str) -> dict[str, Any]:
    """What both give for one head, with processor seconds of SimpleITK."""
    brain = reference(path, folder)
    with tempfile.TemporaryDirectory() as name:
        began = time.process_time()
        template = simpleitk(path, brain, Path(name))
        seconds = round(time.process_time() - began, 1)
        extracted = brainextractor(path, brain, Path(name))
    return {"simpleitk": template, "simpleitk_cpu": seconds, "brainextractor": extracted}


def page(rows: dict[str, dict[str, Any]]) -> str:
    """The table."""
    ours = {
        one["scan"]: one for one in json.loads((HERE / "segmentation.json").read_text())["heads"]
    }
    lines = [
        "# Beside SimpleITK and brainextractor",
        "",
        "The same heads and references as in segmentation.md, by `peers.py`. *Template*: Dice of",
        "the template's brain, mapped to the scan by the affine transform, with the reference's",
        "brain. *Brain*: Dice of the brain that was found. SimpleITK: rigid, then affine, by",
        "mutual information, from two starts; brainextractor is FSL's BET in Python.",
        "",
        "| scan | template: uncus | SimpleITK | brain: uncus | brainextractor |",
        "| --- | --- | --- | --- | --- |",
    ]
    for scan, one in rows.items():
        cells = [scan, ours[scan]["template"], one["simpleitk"], ours[scan]["brain"]]
        lines.append("| " + " | ".join(map(str, [*cells, one["brainextractor"]])) + " |")
    return "\n".join([*lines, ""])


def main(base: Path) -> None:
    """Measure what is missing, write the rows and the page."""
    store = HERE / "peers.json"
    rows = json.loads(store.read_text()) if store.exists() else {}
    found = [
        (folder, path)
        for folder in SETS
        for path in sorted((base / folder).glob("*_T1w.nii.gz"))
        if folder != "heads" or path.name.startswith("aomic")
    ]
    for folder, path in track(found, "Heads"):
        name = path.name.split("_T1w")[0]
        if name not in rows:
            rows[name] = row(path, folder)
            write_json(store, rows)
    (HERE / "peers.md").write_text(page(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
