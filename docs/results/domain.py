"""Measure which scans are taken for another domain than a run's, and write domain.md.

    python docs/results/domain.py DEMO MRI WORK

DEMO is the folder of `uncus demo`, MRI a folder with whole heads of people (elderly-heads,
ixi-heads, heads) and with OASIS-1 slabs (oasis1-slab), WORK a folder for phantoms, a cohort and a
run of slabs; what is there already is kept.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.quality_control import correlation
from uncus.data.transforms.normalization import NormalizeBrain
from uncus.data.transforms.reading import Source
from uncus.pipeline.cli import main as uncus
from uncus.pipeline.predict import Predictor
from uncus.pipeline.prediction.trained_networks import read_reference
from uncus.pipeline.runs import Run
from uncus.pipeline.trust.domain import ALARMS
from uncus.pipeline.trust.statistics import feature_statistics, image_statistics

HERE = Path(__file__).parent
Array = NDArray[np.float32]
Case = tuple[Array, Sequence[int]]
"""A placed scan, and the folds whose networks were not trained on it; none for all networks."""
MADE = 20
"""Scans that each kind of fault is made of."""
SLABS = "--target cdr --classes CN=0 AD=0.5,1,2 --backbone tiny --folds 5 --epochs 8 --lr 0.003"
PHANTOM_TO_SLAB = np.array([1.1, 1.05, 1.03]), np.array([0.6, -25.9, 13.5])
"""Scale of OASIS-1's atlas against MNI152, and where its slab's centre lies there (mm)."""
HEADS = "whole heads of people: "


def normalized(array: Array, mask: NDArray[np.bool_]) -> Array:
    """Z-scores inside the brain, as scans are placed."""
    return NormalizeBrain().normalize(array, mask)


def contrast(power: float) -> Callable[[Array, Any], Array]:
    """A contrast with another curve, or reversed."""

    def made(array: Array, _: Any) -> Array:
        mask = array != 0
        low, high = array[mask].min(), array[mask].max()
        return normalized((((array - low) / (high - low)).clip(0, 1) ** power), mask)

    return made


def reversed_contrast(array: Array, _: Any) -> Array:
    """Dark tissue bright, as in T2."""
    return normalized(-array, array != 0)


def lesioned(array: Array, random: np.random.Generator) -> Array:
    """Three balls of 10 to 20 mm across (on a grid of 4 mm: 2.5 to 5 voxels), dark or bright."""
    mask = array != 0
    places = np.argwhere(ndimage.distance_transform_edt(mask) > min(3, min(array.shape) / 4))
    made = array.copy()
    for _ in range(3):
        centre = places[random.integers(len(places))]
        distance = np.linalg.norm(np.indices(array.shape).T - centre, axis=-1).T
        inside = distance < random.uniform(1.25, 2.5)
        made[inside & mask] = random.choice([array.min(), array.max()])
    return normalized(made, mask)


def half_resolution(array: Array, _: Any) -> Array:
    """Averages of two voxels along each axis."""
    even = [slice(0, size - size % 2) for size in array.shape]
    part = array[tuple(even)]
    for axis in range(3):
        shape = list(part.shape)
        shape[axis : axis + 1] = [shape[axis] // 2, 2]
        part = part.reshape(shape).mean(axis + 1).repeat(2, axis)
    made = array.copy()
    made[tuple(even)] = part
    return normalized(made, array != 0)


FAULTS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "reversed contrast": reversed_contrast,
    "brighter contrast (power 0.5)": contrast(0.5),
    "darker contrast (power 2)": contrast(2),
    "three lesions of 10 to 20 mm": lesioned,
    "upside down": lambda array, _: np.ascontiguousarray(array[:, ::-1, ::-1]),
    "mirrored left to right": lambda array, _: np.ascontiguousarray(array[::-1]),
    "half the resolution": half_resolution,
}


class Measured:
    """The scans of a run, and others, by how far they are from its domain."""

    def __init__(self, run: Path, cohort: Path) -> None:
        self.run, self.cohort = Run(run), PreparedCohort.open(cohort)
        self.predictor = Predictor(run, engine="torch", segment=None)
        assert self.predictor.domain is not None
        self.domain = self.predictor.domain
        self.networks = [self.predictor.networks[k] for k in self.predictor.measured]
        self.reference = read_reference(self.run, self.predictor.grid)
        self.size = np.multiply(self.predictor.grid.shape, self.predictor.grid.spacing).tolist()

    def distance(self, array: Array, folds: Sequence[int] = ()) -> float:
        """The largest distance of any part, in units of its limit; by the networks of ``folds``."""
        image = image_statistics(array)
        stored = torch.from_numpy(array.astype(np.float16).astype(np.float32))[None, None]
        folds = folds or range(len(self.networks))
        rows = {
            k: image | {"features": feature_statistics(self.networks[k], stored)} for k in folds
        }
        limits = self.domain.known["limits"]
        return max(
            float(
                np.mean([self.domain.networks[k][n].distance(rows[k][n][None])[0] for k in folds])
            )
            / limit
            for n, limit in limits.items()
        )

    def own(self) -> list[Case]:
        """The run's scans, each for the network that was not trained on it."""
        splits = self.run.splits()
        found: list[Case] = []
        known = list(self.cohort.table["participant_id"])
        for name in self.run.scans()["participant_id"]:
            folds = [k for k in range(splits.folds) if name in splits.subjects(k, "test")]
            array = np.asarray(self.cohort.volumes[known.index(name)], np.float32)
            found.append((array, folds))
        return found

    def refused(self, array: Array) -> bool:
        """Whether quality control refuses it before its domain is looked at."""
        region = self.reference.region
        return correlation(array, self.reference.mean, region) < self.reference.limits()[1]

    def rows(self, kinds: dict[str, list[Case]], own: list[float]) -> list[dict[str, Any]]:
        """Of each kind: AUROC against the run's own scans, and the share that is flagged."""
        found = []
        for kind, cases in kinds.items():
            far = [self.distance(*case) for case in track(cases, kind[:20])]
            truth = [0] * len(own) + [1] * len(far)
            found.append(
                {
                    "kind": kind,
                    "scans": len(far),
                    "auroc": round(float(roc_auc_score(truth, own + far)), 3),
                    "flagged": round(float(np.mean(np.array(far) > 1)), 3),
                    "refused": round(float(np.mean([self.refused(one) for one, _ in cases])), 3),
                    "distance": [round(float(np.min(far)), 2), round(float(np.median(far)), 2)],
                }
            )
        return found


def command(*words: object) -> None:
    """Run a verb; a failure ends the program."""
    if code := uncus([str(word) for word in words]):
        sys.exit(f"uncus {words[0]} ended with exit code {code}")


def faults(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Faults made of the first scans."""
    random = np.random.default_rng(0)
    return {
        kind: [(make(array, random), folds) for array, folds in cases[:MADE]]
        for kind, make in FAULTS.items()
    }


def new(arrays: Sequence[Array]) -> list[Case]:
    """Scans that no network of the run was trained on."""
    return [(array, ()) for array in arrays]


def placed(predictor: Predictor, folder: Path, kind: str, paths: Sequence[Path]) -> list[Array]:
    """Scans as the run places them; each is kept in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for path in track(paths, kind[:20]):
        store = folder / f"{kind}-{path.name.split('_T1w')[0].split('.')[0]}.npz"
        if not store.exists():
            try:
                one = predictor.pipeline.place(predictor.pipeline.read(Source((path,))))
            except BadInput as error:
                print(f"refused: {error}")
                continue
            np.savez(store, array=one.array.astype(np.float16))
        found.append(np.load(store)["array"].astype(np.float32))
    return found


def volumes(cohort: Path) -> list[Array]:
    """All scans of a prepared cohort."""
    return [np.asarray(one, np.float32) for one in PreparedCohort.open(cohort).volumes]


def of_phantoms(demo: Path, mri: Path, work: Path) -> tuple[Measured, dict[str, list[Case]]]:
    """The demo's run, with new phantoms, whole heads of people, and faults made of phantoms."""
    measured = Measured(demo / "run", demo / "cohort")
    if not (work / "new" / "participants.tsv").exists():
        command("phantom", work / "new", "--subjects", 12, "--seed", 7, "--spacing", 1.5)
    if not (work / "registered-cohort" / "manifest.json").exists():
        command("phantom", work / "registered", "--subjects", 40, "--seed", 9, "--registered")
        command("prepare", work / "registered", work / "registered-cohort", "--like", demo / "run")
    registered = volumes(work / "registered-cohort")
    raw = sorted((work / "new").glob("sub-*/anat/*_T1w.nii.gz"))
    kinds = {
        "new phantoms of 2 mm, in MNI152": registered,
        "new phantoms of 1.5 mm, registered": placed(
            measured.predictor, work / "placed", "new", raw
        ),
    }
    others = [mri / "heads/aomic-0001_T1w.nii.gz", mri / "heads/philips-mprage-dicom.zip"]
    for name, paths in {
        "elderly-heads": sorted((mri / "elderly-heads").glob("*_T1w.nii.gz")),
        "ixi-heads": sorted((mri / "ixi-heads").glob("*_T1w.nii.gz")),
        "heads": others,
    }.items():
        what = {"elderly-heads": "73 to 96 years", "ixi-heads": "IXI", "heads": "AOMIC, Philips"}
        kinds[HEADS + what[name]] = placed(measured.predictor, work / "placed", name, paths)
    cases = {kind: new(arrays) for kind, arrays in kinds.items()}
    return measured, cases | faults(new(registered))


def of_people(mri: Path, work: Path) -> tuple[Measured, dict[str, list[Case]]]:
    """A run on slabs of people over 60, with younger people, phantoms cut alike, and faults."""
    if not (work / "slabs" / "manifest.json").exists():
        command("prepare", mri / "oasis1-slab", work / "slabs", "--spacing", 2, 1, 2)
    if not (work / "slab-run" / "model" / "SHA256SUMS").exists():
        where = ["--where", "age >= 60"]
        command("train", work / "slabs", work / "slab-run", *SLABS.split(), *where, "--jobs", 2)
    measured = Measured(work / "slab-run", work / "slabs")
    table = measured.cohort.table
    own = set(measured.run.scans()["participant_id"])
    ages = table["age"].astype(float)
    first = ~table["participant_id"].duplicated() & ~table["participant_id"].isin(own)
    young = np.flatnonzero(first & (ages < 40))[:60]
    every = measured.cohort.volumes
    cut = [slab_of(path, measured) for path in sorted((work / "registered").glob("sub-*/anat/*"))]
    return measured, {
        "phantoms, cut to slabs": new(cut),
        "people below 40 years": new([np.asarray(every[row], np.float32) for row in young]),
        **faults(measured.own()),
    }


def slab_of(path: Path, measured: Measured) -> Array:
    """A phantom in MNI152 on the grid of the slabs."""
    image = nib.as_closest_canonical(nib.load(path))
    grid = measured.predictor.grid
    scale, centre = PHANTOM_TO_SLAB
    middle = grid.affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2) + grid.affine[:3, 3]
    to_mni = np.diag([*(1 / scale), 1.0])
    to_mni[:3, 3] = centre - middle / scale
    matrix = np.linalg.inv(image.affine) @ to_mni @ grid.affine
    voxels = np.asarray(image.dataobj, np.float32)
    array = ndimage.affine_transform(voxels, matrix, output_shape=grid.shape, order=1)
    return normalized(array, array > 0.05 * array.max())


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        f"| {r['kind']} | {r['scans']} | {r['auroc']:.3f} | {r['flagged']:.0%} "
        f"| {r['refused']:.0%} | {r['distance'][0]:.2f} | {r['distance'][1]:.2f} |"
        for r in rows
    ]
    head = "| scans | n | AUROC | flagged | refused | nearest | median |"
    return "\n".join([head, "| --- |" + " ---: |" * 6, *lines])


def main(demo: Path, mri: Path, work: Path) -> None:
    """Measure both runs, and write the figures and the page."""
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for name, (measured, kinds) in {
        "phantoms": of_phantoms(demo, mri, work),
        "people": of_people(mri, work),
    }.items():
        own = [measured.distance(*case) for case in track(measured.own(), "own")]
        known = dict(measured.domain.known)
        results[name] = {
            "domain": {key: value for key, value in known.items() if key != "limits"},
            "in_words": str(measured.domain),
            "out_of_fold_flagged": round(float(np.mean(np.array(own) > 1)), 3),
            "rows": measured.rows(kinds, own),
        }
    (HERE / "domain.json").write_text(json.dumps(results, indent=1) + "\n")
    phantoms, people = results["phantoms"], results["people"]
    text = (
        (HERE / "domain.template.md")
        .read_text()
        .format(
            alarms=f"{ALARMS:.0%}",
            phantoms=phantoms["in_words"],
            phantoms_own=f"{phantoms['out_of_fold_flagged']:.1%}",
            phantoms_nested=share(phantoms["domain"]),
            phantoms_rows=table(phantoms["rows"]),
            people=people["in_words"],
            people_own=f"{people['out_of_fold_flagged']:.1%}",
            people_nested=share(people["domain"]),
            people_rows=table(people["rows"]),
            heads=sum(r["scans"] for r in phantoms["rows"] if r["kind"].startswith(HEADS)),
            flagged=sum(
                round(r["scans"] * r["flagged"])
                for r in phantoms["rows"]
                if r["kind"].startswith(HEADS)
            ),
        )
    )
    (HERE / "domain.md").write_text(text)
    print(HERE / "domain.md")


def share(known: dict[str, Any]) -> str:
    """The false alarms by limits from the other folds."""
    return f"{known['false_alarms'] / known['tested']:.1%}"


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
