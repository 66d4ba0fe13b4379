"""Which scans of a run's cohort are explained for its passport, each by a network that was not
trained on its subject."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.bids_derivatives import read_transform
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import read_volume
from uncus.data.prepared_cohort import PreparedCohort
from uncus.pipeline.runs import Run
from uncus.pipeline.saliency.passport.verdict import FEWEST

SCAN = ["participant_id", "session_id"]


@dataclass(frozen=True)
class Chosen:
    """A scan to explain.

    Attributes
    ----------
    name: "sub-S" or "sub-S_ses-T".
    row: its position in the cohort; ``second``: that of another scan of the subject, if any.
    member: position of the network in the run's model card.
    output: the class, or column, that is explained.
    right: whether that is the scan's own class; True for a regression.
    """

    name: str
    row: int
    second: int | None
    member: int
    output: int
    right: bool


def choose(run: Run, cohort: PreparedCohort, count: int, lesions: bool, seed: int) -> list[Chosen]:
    """Up to ``count`` test scans of the run, one a subject, in random order.

    Of each class as many, those that are predicted right first: their class is explained. Where
    lesions are known, enough of the last class, which has the disease, for a verdict.
    """
    table = run.predictions()
    names, members = run.target.names, run.card["members"]
    first = {int(m["fold"]): k for k, m in reversed(list(enumerate(members)))}
    table = table[(table["part"] == "test") & table["fold"].isin(first)]
    table = table[table["seed"] == table["fold"].map(lambda fold: members[first[fold]]["seed"])]
    table = table.sample(frac=1, random_state=seed).drop_duplicates("participant_id")
    if run.target.regression:
        output = np.arange(len(table)) % len(names)
        right = np.ones(len(table), bool)
    else:
        output = table[[f"p_{name}" for name in names]].to_numpy(float).argmax(axis=1)
        right = table["true"].to_numpy() == np.array(names)[output]
    table = table.assign(output=output, right=right).sort_values(
        "right", ascending=False, kind="stable"
    )
    table = table.iloc[balanced(table["output"].to_numpy(), len(names), count, lesions)]
    scans = zip(*(cohort.table[column] for column in SCAN), strict=True)
    rows = {scan: row for row, scan in enumerate(scans)}
    return [
        Chosen(
            name="_".join(filter(None, scan)),
            row=rows[scan],
            second=second_scan(rows, scan) if cohort.space == "mni" else None,
            member=first[int(fold)],
            output=int(output),
            right=bool(right),
        )
        for *cells, fold, output, right in table[[*SCAN, "fold", "output", "right"]].itertuples(
            index=False
        )
        if (scan := (str(cells[0]), str(cells[1]))) in rows
    ]


def balanced(
    output: NDArray[np.int64], outputs: int, count: int, lesions: bool
) -> NDArray[np.int64]:
    """Positions of ``count`` scans, the earliest of each output in turn."""
    turn = np.zeros(len(output), int)
    for k in range(outputs):
        own = np.flatnonzero(output == k)
        turn[own] = np.arange(len(own))
        if lesions and k == outputs - 1:
            turn[own[:FEWEST]] = 0
    return np.argsort(turn, kind="stable")[:count]


def second_scan(rows: Mapping[tuple[str, str], int], scan: tuple[str, str]) -> int | None:
    """The row of another session of the scan's subject, if there is one."""
    others = [row for name, row in rows.items() if name[0] == scan[0] and name != scan]
    return min(others, default=None)


def lesion_masks(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Scan -> its file ``SCAN*_mask.nii.gz`` below ``folder``, as in BIDS derivatives.

    Raises
    ------
    BadInput: no scan has one, or a scan has several.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*_mask.nii*")):
        for name in names:
            if path.name.startswith(f"{name}_"):
                if name in found:
                    cause = f"has two masks of {name}: {found[name].name} and {path.name}"
                    raise BadInput(folder, cause, "name the folder of one kind of mask")
                found[name] = path
    if not found:
        cause = f"has no mask of {names[0]}" if names else "fits no scan"
        raise BadInput(folder, cause, f"name a folder with files such as {names[0]}_mask.nii.gz")
    return found


def lesion_on_grid(path: Path, cohort: PreparedCohort, row: int) -> NDArray[np.bool_]:
    """A mask on the scan's own voxels, carried to the cohort's grid as the scan was."""
    mask, grid = read_volume(path), cohort.grid
    moved = read_transform(cohort.path / cohort.manifest["scans"][row]["derivative"]) @ mask.affine
    matrix = np.linalg.inv(moved) @ grid.affine
    inside = (mask.array > 0).astype(np.float32)
    found: NDArray[np.float32] = ndimage.affine_transform(
        inside, matrix[:3, :3], matrix[:3, 3], grid.shape, order=1
    )
    return np.asarray(found >= 0.5)
