"""Where in the brain the built-in model of dementia finds its evidence: a map of the group."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data import atlas
from uncus.data.mni.template import load_template
from uncus.data.prepared_cohort import PreparedCohort
from uncus.pipeline.prediction.trained_networks import read_networks
from uncus.pipeline.progress_bars import track
from uncus.pipeline.runs import Run

SHADES = "RdBu_r"


@dataclass(frozen=True)
class GroupMap:
    """Evidence for dementia by voxel, in people with dementia less in those without.

    Attributes
    ----------
    array: [X, Y, Z], log-odds; the sum is the difference of the groups' mean log-odds, without the
        term of the age.
    affine: index -> mm of ICBM152.
    people: in each group.
    """

    array: NDArray[np.float64]
    affine: NDArray[np.float64]
    people: dict[str, int]

    def shares(self) -> list[dict[str, Any]]:
        """Of the absolute map, by region, both sides together, the largest first.

        "even" is the region's share of all regions' voxels, which a map has that is the same
        everywhere; "net" its share of the sum, negative where it speaks against dementia.
        """
        found = atlas.load_atlas()
        labels = found.on(self.array.shape, self.affine)
        names = np.array([""] * (max(found.names) + 1), object)
        for label, name in found.names.items():
            words = atlas.full_name(name)
            names[label] = words.removeprefix("left ").removeprefix("right ")
        regions = names[labels]
        inside = labels > 0
        total = float(np.abs(self.array[inside]).sum())
        rows = []
        for name in sorted(set(regions[inside])):
            own = regions == name
            share = float(np.abs(self.array[own]).sum()) / total
            net = float(self.array[own].sum()) / float(self.array.sum())
            even = float(own.sum() / inside.sum())
            rows.append({"region": name, "share": share, "net": net, "even": even})
        return sorted(rows, key=lambda row: -row["share"])

    def draw(self, path: Path) -> None:
        """The map on the template's brain, slice by slice from posterior to anterior."""
        shape = self.array.shape
        template = load_template()
        matrix = np.linalg.inv(template.affine) @ self.affine
        brain = ndimage.affine_transform(
            np.where(template.brain, template.t1, 0.0),
            matrix[:3, :3],
            matrix[:3, 3],
            shape,
            order=1,
        )
        top = float(np.quantile(np.abs(self.array[self.array != 0]), 0.98))
        height = shape[2] / shape[0] * 2.4 + 0.35
        with matplotlib.rc_context({**matplotlib.rcParamsDefault, "font.family": "DejaVu Sans"}):
            drawn = Figure(figsize=(2.4 * shape[1] + 0.8, height), layout="constrained")
            axes = drawn.subplots(1, shape[1])
            for y, one in enumerate(axes):
                place = dict(origin="lower", extent=(0, shape[0], 0, shape[2]))
                one.imshow(brain[:, y].T, cmap="gray", **place)
                values = self.array[:, y].T
                alpha = np.clip(np.abs(values) / top, 0, 1)
                image = one.imshow(values, cmap=SHADES, vmin=-top, vmax=top, alpha=alpha, **place)
                mm = self.affine[1, 1] * y + self.affine[1, 3]
                one.set_title(f"y = {mm:.0f} mm", fontsize=9)
                one.set_axis_off()
            bar = drawn.colorbar(image, ax=axes, shrink=0.8, ticks=[-top, 0, top])
            bar.ax.set_yticklabels(["against", "0", "for dementia"], fontsize=8)
            drawn.savefig(path, dpi=90, facecolor="white")


def group_map(run: Run, cohort: PreparedCohort) -> GroupMap:
    """The map of a run with two classes, each scan by the network that was not trained on it."""
    table = run.predictions()
    table = table[table["part"] == "test"].drop_duplicates("participant_id")
    scans = list(zip(cohort.table["participant_id"], cohort.table["session_id"], strict=True))
    _, networks = read_networks(run, torch.device("cpu"))
    folds = {int(member["fold"]): k for k, member in enumerate(run.card["members"])}
    sums: dict[str, NDArray[np.float64]] = {}
    rows = list(table[["participant_id", "session_id", "fold", "true"]].itertuples(index=False))
    for participant, session, fold, true in track(rows, "mapping"):
        volume = torch.from_numpy(np.array(cohort.volumes[scans.index((participant, session))]))
        model = networks[folds[int(fold)]]
        weight = (model.head.weight[1] - model.head.weight[0])[:, None, None, None]
        one = volume.float()[None, None]
        with torch.inference_mode():
            seen = [model.features(one)[0], model.features(one.flip(2))[0].flip(1)]
            evidence = sum((weight * features).sum(0) for features in seen) / 2
        assert isinstance(evidence, torch.Tensor)
        array = model.gain * evidence.double().numpy() / evidence.numel()
        sums[true] = sums.get(true, 0.0) + array
    people = {name: int((table["true"] == name).sum()) for name in run.target.names}
    without, ill = (sums[name] / people[name] for name in run.target.names)
    affine = cohort.grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.full(3, model.offset)
    affine[:3, :3] *= model.stride
    return GroupMap(ill - without, affine, people)
