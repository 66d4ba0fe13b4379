"""``uncus explain``: saliency maps of one scan by several methods, and a run's check of them."""

from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from uncus import NOTICE
from uncus.data import files
from uncus.data.design import covariates
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.build import build_model
from uncus.models.weights import load_weights
from uncus.pipeline.builtin.catalog import run_and_scans
from uncus.pipeline.config import from_dict
from uncus.pipeline.environment import torch_device
from uncus.pipeline.prediction.options import ScanOptions
from uncus.pipeline.prediction.output import (
    check_writable,
    refusal_pictured,
    scan_name,
    show,
    write_map,
)
from uncus.pipeline.prediction.predictor import Predictor
from uncus.pipeline.prediction.trained_networks import read_networks
from uncus.pipeline.runs import Member, Run, check_free
from uncus.pipeline.saliency import SALIENCY


@dataclass(frozen=True)
class CheckOptions:
    """How to check the saliency methods of a run."""

    check: bool = False
    """Check the methods on the run's own test scans instead of explaining one, and write
    RUN/passport.json and .html: weights randomized, deletion and insertion against random order,
    known lesions, agreement. A method that fails is marked wherever the run shows its maps."""
    subjects: int | None = None
    """Scans to check on, one a subject; 12, or 6 if quick. Fewer than 5 give no verdict."""
    shuffled: bool = False
    """Also train a network on shuffled labels, as long as one of the run's, to compare maps with;
    it is kept."""
    quick: bool = False
    """Check in a reduced form: fewer stages, steps and gradients."""
    cohort: Path | None = None
    """The run's cohort, where it was moved."""
    lesions: Path | None = None
    """Folder with masks of known lesions, SCAN_mask.nii.gz or SCAN_desc-NAME_mask.nii.gz, such as
    the derivatives of uncus phantom; those of the run's last class are to be found."""

    def __post_init__(self) -> None:
        if self.subjects is not None and self.subjects < 1:
            raise ValueError(f"subjects={self.subjects}: must be at least 1")
        for name in ("subjects", "shuffled", "quick", "cohort", "lesions"):
            if getattr(self, name) and not self.check:
                raise ValueError(f"--{name} is for the check of a run; add --check")


@dataclass(frozen=True)
class Explain(ScanOptions):
    """Saliency maps of a scan by several methods, on the scan's own grid, with a figure for each.

    Writes OUT/<scan>/saliency_<method>.nii.gz and .png and, if the run's space is mni,
    atlas_<method>.tsv. With --check RUN and no scan, the methods themselves are tested.
    """

    scan: Annotated[
        Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="SCAN", help_behavior_hint="")
    ] = None
    """A T1w volume: NIfTI, Analyze, MGZ, or a DICOM series as a folder, a zip or one file."""
    _: KW_ONLY
    out: Path | None = None
    """Folder for the maps."""
    methods: tuple[str, ...] = tuple(SALIENCY)
    """Methods to use."""
    passport: Annotated[CheckOptions, tyro.conf.OmitArgPrefixes] = field(
        default_factory=CheckOptions
    )

    def run(self) -> int:
        """Write the maps, or the passport; returns 0."""
        for method in self.methods:
            if method not in SALIENCY:
                raise ValueError(
                    f"unknown saliency method {method!r}; use one of {', '.join(SALIENCY)}"
                )
        if self.passport.check:
            return self.check()
        given = () if self.scan is None else (self.scan,)
        run, scans = run_and_scans(self.trained, given)
        if len(scans) > 1:
            raise BadInput(scans[0], "is not a run", "give one scan: uncus explain [RUN] SCAN")
        if self.out is None:
            raise ValueError("give a folder for the maps: --out DIR")
        check_free(self.out)
        check_writable(self.out)
        predictor = Predictor(run, self.device)
        folder = self.out / scan_name(scans[0])
        with refusal_pictured(folder):
            prediction = predictor(
                scans[0], series=self.series, covariates=covariates.parse(self.covariates)
            )
        show(prediction)
        for method in self.methods:
            explanation = predictor.explain(prediction, method, self.explain)
            regions = write_map(folder, explanation, f"_{method}").get("regions")
            print(f"{method}: {folder / f'saliency_{method}'}.nii.gz and .png")
            for doubt in explanation.doubts:
                print(f"  {doubt}")
            if regions:
                print(f"  {leading(regions)}")
        print(f"The run's check of these methods: {predictor.verdicts.line()} {NOTICE}")
        return 0

    def check(self) -> int:
        """Write the passport; returns 0."""
        from uncus.pipeline.model_card import card as model_card
        from uncus.pipeline.saliency.passport.check import (
            QUICK_SUBJECTS,
            SUBJECTS,
            Check,
            Networks,
        )

        if self.trained is None or self.scan is not None or self.out is not None:
            raise ValueError("--check tests the methods of a run; give a RUN, no scan and no --out")
        run, options, device = Run(self.trained), self.passport, torch_device(self.device)
        if warning := run.verify_results():
            print(f"warning: {warning}")
        check_writable(run.path)
        cohort = run.cohort(options.cohort)
        config, members = read_networks(run, device)
        how = Check(
            self.methods,
            options.subjects or (QUICK_SUBJECTS if options.quick else SUBJECTS),
            options.quick,
            options.lesions,
        )
        with files.locked(run.path, "passport"):
            networks = Networks(config, members)
            if options.shuffled:
                path = train_shuffled(run, cohort)
                network = build_model(config)
                load_weights(network, path)
                network = network.eval().to(device)
                networks = Networks(config, members, network, files.sha256(path))
            passport = how.run(run, cohort, networks)
        model_card.write(run)
        for method, one in passport["methods"].items():
            why = f": {'; '.join(one['reasons'])}" if one["reasons"] else ""
            print(f"{method}: {one['verdict']}{why}")
        for line in passport["not_done"]:
            print(f"not done: {line}")
        print(f"{run.passport_page}. {NOTICE}")
        return 0


def train_shuffled(run: Run, cohort: PreparedCohort) -> Path:
    """Train a network as the first of ``run`` was, but on shuffled labels; returns its weights.

    Its initial weights, its order and its augmentation have a seed of their own.
    """
    from uncus.pipeline.training.options import TrainingOptions
    from uncus.pipeline.training.parallel import Job, train_networks
    from uncus.pipeline.training.run_setup import label_scans, plan

    card = run.card["members"][0]
    seed = max(int(member["seed"]) for member in run.card["members"]) + 1
    member = Member(int(card["fold"]), seed, "shuffled-labels")
    path = run.shuffled.weights(member)
    if not path.exists():
        options = from_dict(TrainingOptions, run.config, run.config_path)
        options = replace(options, cohort=cohort.path, out=run.shuffled.path, only=())
        task = plan(options, cohort, label_scans(options, cohort), run.splits())
        labels = np.random.default_rng(seed).permutation(task.labels)
        task = replace(task, labels=labels)
        train_networks([Job("", member.name, run.shuffled, member, task)], 1)
    return path


def leading(rows: list[dict[str, Any]], count: int = 3) -> str:
    """The regions with the largest shares of a map, as one line of text."""
    return ", ".join(f"{row['region']} {row['saliency_share']:.0%}" for row in rows[:count])
