"""The check of a run's saliency methods: measure scan by scan, judge, write the passport."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uncus import NOTICE, __version__
from uncus.data import files
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.base import Classifier
from uncus.models.build import ModelConfig
from uncus.pipeline.progress_bars import track
from uncus.pipeline.runs import Run
from uncus.pipeline.saliency.gradients import integrated_gradients
from uncus.pipeline.saliency.occlusion import occlusion
from uncus.pipeline.saliency.passport import captum_metrics, page
from uncus.pipeline.saliency.passport.cases import Chosen, choose, lesion_masks, lesion_on_grid
from uncus.pipeline.saliency.passport.measures import Case, Effort, measure
from uncus.pipeline.saliency.passport.verdict import judge
from uncus.pipeline.saliency.registry import SALIENCY, Saliency
from uncus.pipeline.saliency.score import Score

SUBJECTS, QUICK_SUBJECTS = 12, 6
SEED = 0


@dataclass(frozen=True)
class Networks:
    """The networks of a run.

    Attributes
    ----------
    members: in the order of the model card.
    shuffled: one that was trained on shuffled labels, if there is one; and its weights' SHA-256.
    """

    config: ModelConfig
    members: Sequence[Classifier]
    shuffled: Classifier | None = None
    shuffled_sha256: str = ""


@dataclass(frozen=True)
class Check:
    """How to check a run.

    Attributes
    ----------
    methods: names of the methods.
    subjects: most scans, one a subject.
    quick: fewer stages, steps and gradients; captum's metrics are left out.
    lesions: folder of masks of known lesions.
    """

    methods: tuple[str, ...]
    subjects: int
    quick: bool = False
    lesions: Path | None = None

    @property
    def effort(self) -> Effort:
        """What is measured on each scan."""
        methods = {name: coarser(name, self.quick) for name in self.methods}
        if self.quick:
            return Effort(methods, stages=1, steps=5, orders=2)
        return Effort(methods, captum=captum_metrics.available())

    def run(self, run: Run, cohort: PreparedCohort, networks: Networks) -> dict[str, Any]:
        """Check ``run``; returns the content of passport.json, which is written with its page.

        What was measured before with the same options is not measured again.
        """
        chosen = choose(run, cohort, self.subjects, self.lesions is not None, SEED)
        masks = self.masks(run, chosen)
        weights = run.weights_sums()
        settings = self.settings(weights, networks)
        results = []
        for one in track(chosen, "checking"):
            path = run.passport_case(one.name)
            key = {**settings, "member": one.member, "output": one.output}
            stored = measured_before(path)
            if stored.get("settings") != key:
                case = make_case(one, cohort, networks, run.target.regression, masks)
                stored = {"settings": key, "measured": measure(case, self.effort)}
                files.write_json(path, stored)
            results.append(stored["measured"])
        passport = {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "uncus": __version__,
            "notice": NOTICE,
            "weights": weights,
            "subjects": len(chosen),
            "quick": self.quick,
            "compared_with": "another network" if len(networks.members) > 1 else "noise",
            "outputs": [run.target.names[k] for k in sorted({one.output for one in chosen})],
            "not_done": self.not_done(run, networks, cohort, chosen, masks),
            **judge(results),
        }
        files.write_json(run.passport_path, passport)
        files.write_text(run.passport_page, page.page(run.path.resolve().name, passport))
        return passport

    def masks(self, run: Run, chosen: Sequence[Chosen]) -> dict[str, Path]:
        """Scan -> mask of its lesion, for scans of the last class that are predicted right."""
        if self.lesions is None or run.target.regression:
            return {}
        last = len(run.target.names) - 1
        diseased = [one.name for one in chosen if one.output == last and one.right]
        return lesion_masks(self.lesions, diseased) if diseased else {}

    def settings(self, weights: Mapping[str, str], networks: Networks) -> dict[str, Any]:
        """What the measures of a scan depend on, for JSON."""
        effort = self.effort
        return {
            "uncus": __version__,
            "weights": dict(weights),
            "methods": list(effort.methods),
            "quick": self.quick,
            "captum": effort.captum,
            "shuffled": networks.shuffled_sha256,
            "lesions": str(self.lesions.resolve()) if self.lesions else "",
            "seed": SEED,
        }

    def not_done(
        self,
        run: Run,
        networks: Networks,
        cohort: PreparedCohort,
        chosen: Sequence[Chosen],
        masks: Mapping[str, Path],
    ) -> list[str]:
        """What the check leaves out, and why."""
        left = []
        if networks.shuffled is None:
            left.append("labels randomized: add --shuffled to train a network on shuffled labels")
        if not masks:
            why = (
                "of a regression no lesion's sign is known"
                if run.target.regression
                else ("--lesions names a folder of masks")
            )
            left.append(f"known lesions: {why}")
        if not any(one.second is not None for one in chosen):
            space = "no subject has a second scan"
            if cohort.space != "mni":
                space = "scans are not registered, so two of a subject do not align"
            left.append(f"test and retest: {space}")
        if len(networks.members) == 1:
            left.append("agreement of networks: there is one; maps of a noisy copy are compared")
        if self.quick:
            left.append("infidelity and sensitivity: not in a quick check")
        elif not captum_metrics.available():
            left.append(
                "infidelity and sensitivity: captum is not installed (pip install 'uncus[check]')"
            )
        return left


def measured_before(path: Path) -> dict[str, Any]:
    """What was measured on a scan; {} where it was not, or its file is damaged."""
    try:
        stored = files.read_json(path)
    except (BadInput, OSError):
        return {}
    return stored if isinstance(stored, dict) else {}


def coarser(name: str, quick: bool) -> Saliency:
    """A method, in fewer passes where it takes hundreds: enough to compare maps."""
    method = SALIENCY[name]
    if method.compute is integrated_gradients:
        return replace(method, compute=partial(integrated_gradients, steps=8 if quick else 32))
    if method.compute is occlusion:
        return replace(method, compute=partial(occlusion, most=50 if quick else 100))
    return method


def make_case(
    one: Chosen,
    cohort: PreparedCohort,
    networks: Networks,
    regression: bool,
    masks: Mapping[str, Path],
) -> Case:
    """The scan with its networks."""
    network = networks.members[one.member]
    device = next(network.parameters()).device

    def volume(row: int) -> torch.Tensor:
        voxels = torch.from_numpy(np.asarray(cohort.volumes[row], np.float32))
        return voxels[None, None].to(device)

    others = len(networks.members)
    lesion = lesion_on_grid(masks[one.name], cohort, one.row) if one.name in masks else None
    return Case(
        name=one.name,
        volume=volume(one.row),
        network=network,
        config=networks.config,
        score=Score(one.output, regression),
        other=networks.members[(one.member + 1) % others] if others > 1 else None,
        shuffled=networks.shuffled,
        second=None if one.second is None else volume(one.second),
        lesion=lesion if lesion is not None and lesion.any() else None,
        seed=one.row,
    )
