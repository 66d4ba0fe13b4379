"""Predictions of the built-in models for whole heads, and for the same heads disturbed.

    python docs/results/model_heads.py MODELS HEADS OUT

MODELS has the folders dementia and anatomy; HEADS is a folder of ``*_T1w.nii.gz``, perhaps with a
participants.tsv of ages and volumes. OUT gets a JSON file a head; those that exist are kept.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from scipy.spatial.transform import Rotation

from uncus.data.files import write_json
from uncus.data.segmentation.measures import measure
from uncus.data.segmentation.segmenter import segment_scan
from uncus.data.segmentation.slabs import CLASSES
from uncus.data.space import Placed
from uncus.data.transforms.reading import Source
from uncus.data.transforms.scan_tensor import (
    affine_of,
    to_placed,
    to_volume,
    voxels,
    with_voxels,
)
from uncus.models.backbones.anatomy import MEASURED
from uncus.pipeline.prediction.predictor import Predictor
from uncus.pipeline.prediction.results import Prediction
from uncus.pipeline.progress_bars import track

CENTER = np.array([0.6, -25.9, 13.5])
"""Of the slab in ICBM152, mm."""
MM, DEGREES = 3.0, 3.0
STEPS = 3
"""Of the pipeline before the scan is resampled: reading, checks, registration."""


def moved(image: MetaTensor, matrix: np.ndarray, shift: np.ndarray) -> MetaTensor:
    """Turned about the slab's center, and shifted (mm)."""
    transform = np.eye(4)
    transform[:3, :3] = matrix
    transform[:3, 3] = CENTER - matrix @ CENTER + shift
    return with_voxels(image, voxels(image), transform @ affine_of(image))


def disturbed(image: MetaTensor, seed: int) -> Iterator[tuple[str, MetaTensor]]:
    """The head placed otherwise, or with other intensities."""
    for axis, name in enumerate("xyz"):
        for sign in (-1, 1):
            shift, angles = np.zeros(3), np.zeros(3)
            shift[axis], angles[axis] = sign * MM, sign * DEGREES
            yield f"shift {name} {sign * MM:+g} mm", moved(image, np.eye(3), shift)
            turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
            yield f"turn {name} {sign * DEGREES:+g} degrees", moved(image, turn, np.zeros(3))
    array, mask = voxels(image), image.meta["mask"][0].numpy()
    top = np.percentile(array[mask], 99)
    unit = np.clip(array / top, 0, None)
    for gamma in (0.75, 1.33):
        changed = (unit**gamma * top).astype(np.float32)
        yield f"gamma {gamma}", with_voxels(image, changed, affine_of(image))
    random = np.random.default_rng(seed)
    noisy = array + random.normal(0, 0.05 * top, array.shape).astype(np.float32)
    yield "noise 5%", with_voxels(image, noisy, affine_of(image))


def log_odds(probability: float) -> float:
    """Of the class, before calibration."""
    return float(np.log(probability) - np.log1p(-probability))


def structures(answer: Prediction) -> dict[str, float]:
    """Each measured structure's share of the slab, as the U-Net sees it."""
    found = torch.as_tensor(answer.feature_maps[0]).float().flatten(2).mean(2)
    shares = found.reshape(len(MEASURED), -1).sum(1).tolist()
    names = list(CLASSES)
    return {names[label]: share for label, share in zip(MEASURED, shares, strict=True)}


def answers(models: list[Predictor], placed: Placed, known: dict[str, Any]) -> dict[str, Any]:
    """The probability of dementia, given age and without it, and the measures of the anatomy."""
    dementia, anatomy = models
    own = dementia.of_placed("scan", placed, known, "")
    without = dementia.of_placed("scan", placed, {}, "")
    measures = anatomy.of_placed("scan", placed, known, "")
    return {
        "log_odds": log_odds(own.judgement.outputs[0, 1]),
        "p": own.probabilities["AD"],
        "p_without_age": without.probabilities["AD"],
        "fits": list(own.judgement.fits),
        "structures": structures(own),
        "measures": dict(measures.values),
        "brain_age": dict(measures.brain_age),
        "domain": {"dementia": own.domain.as_dict(), "anatomy": measures.domain.as_dict()},
        "warnings": list(own.warnings),
    }


def of_head(
    models: list[Predictor], path: Path, fields: dict[str, str], disturb: bool
) -> dict[str, Any]:
    """Everything that is measured on one head.

    Parameters
    ----------
    fields: of its row in participants.tsv.
    disturb: whether to measure the head disturbed, too.
    """
    pipeline = models[0].pipeline
    scan = pipeline.read(Source((path,)))
    volume = to_volume(scan)
    known = {"age": float(fields["age"])} if "age" in fields else {}
    segmentation = segment_scan(volume)
    image = pipeline(scan, start=1, end=STEPS)
    found = answers(models, to_placed(volume, pipeline(image, start=STEPS)), known)
    found |= {"fields": fields, "volumes": measure(segmentation) if segmentation else {}}
    found["disturbed"] = {}
    for name, one in disturbed(image, seed=0) if disturb else ():
        placed = to_placed(volume, pipeline(one, start=STEPS))
        answer = models[0].of_placed("scan", placed, known, "")
        found["disturbed"][name] = answer.probabilities["AD"]
    return found


def measure_heads(folder: Path, heads: Path, out: Path, disturb: bool = True) -> None:
    """Measure the models in ``folder`` on every head that ``out`` has no file of."""
    models = [Predictor(folder / name, segment=None) for name in ("dementia", "anatomy")]
    table = heads / "participants.tsv"
    rows: dict[str, dict[str, str]] = {}
    if table.exists():
        with table.open() as file:
            rows = {row["participant_id"]: row for row in csv.DictReader(file, delimiter="\t")}
    for path in track(sorted(heads.glob("*_T1w.nii.gz")), "heads"):
        name = path.name.removesuffix("_T1w.nii.gz")
        if not (out / f"{name}.json").exists():
            write_json(out / f"{name}.json", of_head(models, path, rows.get(name, {}), disturb))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    measure_heads(*map(Path, sys.argv[1:]))
