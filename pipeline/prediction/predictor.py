"""From a scan's file to a prediction, for the command line, the page and the tests alike."""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uncus.data.cohorts.bids import bids_fields
from uncus.data.design.covariates import SEXES, range_warnings, to_row
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import Volume
from uncus.data.phantom.recipe import is_phantom
from uncus.data.segmentation.measures import measure
from uncus.data.segmentation.segmentation import Segmentation
from uncus.data.segmentation.segmenter import forget, known_segmentation, segment_scan
from uncus.data.space import Placed
from uncus.data.tables import limit_warnings, read_number
from uncus.data.text import displayed
from uncus.data.transforms.reading import Source
from uncus.data.transforms.scan_tensor import to_volume
from uncus.models.inference import answer, torch_trunk, views
from uncus.pipeline.builtin.catalog import companions as builtin_companions
from uncus.pipeline.environment import torch_device
from uncus.pipeline.prediction import companion_answers
from uncus.pipeline.prediction import openvino_engine as engines
from uncus.pipeline.prediction.results import Explanation, Map, Prediction, Refused
from uncus.pipeline.prediction.scanner_fields import scanner_fields
from uncus.pipeline.prediction.shared_features import SharedFeatures
from uncus.pipeline.prediction.trained_networks import (
    measured,
    read_domain,
    read_networks,
    read_pipeline,
    read_reliability,
)
from uncus.pipeline.run_files.passport import Verdicts
from uncus.pipeline.runs import Run
from uncus.pipeline.saliency import SALIENCY
from uncus.pipeline.trust.brain_age import COLUMN, BrainAge
from uncus.pipeline.trust.domain import UNKNOWN, Scan, Verdict, scanner_of, synthetic_warning
from uncus.pipeline.trust.judgement import Judgement
from uncus.pipeline.trust.reliability import DEFAULT, Setting
from uncus.pipeline.trust.statistics import Vector, image_statistics

AUTO = "auto"
PERSON = ("age", "sex")
"""What the centiles of volumes depend on."""
Segment = Callable[[Volume], Segmentation | None]
"""Segments a scan; None where it finds no brain."""
FEW_FEATURES = 27
"""Feature maps with fewer voxels, 3 on each axis, are too coarse for Grad-CAM."""


class Predictor:
    """The networks of a run, ready to predict.

    Parameters
    ----------
    run: folder of ``uncus train``; only its ``model`` folder is read.
    device: a torch device.
    engine: computes the feature maps: torch, openvino, openvino-bf16, or auto for the fastest on
        the run's volumes.
    segment: segments each scan, for its volumes; None for no volumes.
    companions: runs that also answer for each scan, as placed for this one; by default a built-in
        model has the others for the same placing.

    Attributes
    ----------
    engine: the engine in use, "torch", "openvino" or "openvino-bf16".
    engine_error: why OpenVINO was tried but is not in use; empty otherwise.

    Raises
    ------
    BadInput: no such device, not a finished run, a damaged or unexpected file in it, or a newer
        schema.
    ValueError: the engine is not available.
    """

    def __init__(
        self,
        run: Path | str,
        device: str = "cpu",
        engine: engines.Engine = "auto",
        segment: Segment | None = segment_scan,
        companions: Sequence[Run] | None = None,
    ) -> None:
        self.segment = segment
        self.run, self.device = Run(Path(run)), torch_device(device)
        sums = self.run.verify()
        self.card = self.run.card
        self.target = self.run.target
        self.reliability = read_reliability(self.run)
        self.training_scans = self.run.training_scans()
        self.run.verdicts()  # raises for a damaged passport before anything is predicted
        self.covariates = self.card.get("covariates", {})
        self.pipeline = read_pipeline(self.run)
        self.grid = self.pipeline.grid
        self.config, self.networks = read_networks(self.run, self.device)
        self.measured = measured(self.run)
        self.domain = read_domain(self.run, self.grid, [self.networks[k] for k in self.measured])
        self.trunks = tuple(torch_trunk(network) for network in self.networks)
        self.engine_error = ""
        self.engine = engines.choose(engine, self.device, math.prod(self.grid.shape))
        if self.engine != "torch":
            shape = (2 if self.card["flip_average"] else 1, 1, *self.grid.shape)
            try:
                self.trunks = engines.openvino_trunks(
                    self.networks,
                    self.config,
                    shape,
                    if_faster=engine == "auto",
                    engine=self.engine,
                )
            except ValueError as error:
                self.engine, self.engine_error = "torch", str(error)
        if companions is None:
            companions = builtin_companions(self.run)
        self.companions = tuple(Predictor(one.path, device, engine, None, ()) for one in companions)
        self.brain_age = BrainAge.of_card(self.card)
        self.identity = {
            "run": self.run.path.resolve().name,
            "backbone": self.config.backbone,
            "norm": self.config.norm,
            "networks": len(self.networks),
            "engine": self.engine,
            "uncus": self.card["versions"]["uncus"],
            "card_sha256": sums[self.run.card_path.name],
        }

    @property
    def verdicts(self) -> Verdicts:
        """The check of the run's saliency methods as it is now: a run may be checked any time."""
        return self.run.verdicts()

    @property
    def names(self) -> tuple[str, ...]:
        """Classes, or a regression's columns, in the order of the networks' outputs."""
        return self.target.names

    def __call__(
        self,
        path: Path | str | Sequence[Path],
        on_step: Callable[[str], object] = str,
        series: str = "",
        covariates: Mapping[str, str | float | None] = MappingProxyType({}),
        setting: Setting = DEFAULT,
    ) -> Prediction:
        """Predict for one scan.

        Parameters
        ----------
        path: file or folder of the scan, or the DICOM files of its series.
        on_step: called with the name of each step as it starts.
        series: selects one of several DICOM series.
        covariates: of the subject, ``{"age": 72}``; those left out are read from the tables of the
            BIDS tree around the scan, or from the DICOM header. Where scans are segmented, age and
            sex are always allowed.
        setting: the classes' shares where the scan comes from, and the error level.

        Raises
        ------
        BadInput: a scan that cannot be read, invalid covariates, or shares of other classes.
        Refused: a scan that was read and fails quality control.
        """
        paths = (Path(path),) if isinstance(path, str | Path) else tuple(path)
        path = common_path(paths)
        to_row(covariates, self.accepted)  # raises before anything is read
        self.reliability.shares(setting)
        on_step("Reading")
        scan = self.pipeline.read(Source(paths, series))
        volume = to_volume(scan)
        known, doubts = self.known_covariates(path, volume, covariates)
        segmentation = None
        try:
            with ThreadPoolExecutor(1) as beside:
                placing = beside.submit(self.pipeline.place, scan)
                if self.segment:
                    on_step("Segmenting")
                    segmentation = self.segment(volume)
                on_step("Placing")
                placed = placing.result()
        except BadInput as error:
            raise Refused(error, volume, segmentation or known_segmentation(volume)) from error
        finally:
            forget()
        placed = replace(placed, warnings=(*placed.warnings, *doubts))
        known = {**scanner_fields(path, volume), **known}
        on_step("Predicting")
        return self.of_placed(
            displayed(path.name),
            placed,
            known,
            placed.volume.voxel_hash,
            segmentation,
            setting,
            is_phantom(volume.native.path),
        )

    def of_placed(
        self,
        name: str,
        placed: Placed,
        known: Mapping[str, str | float | None],
        voxel_hash: str,
        segmentation: Segmentation | None = None,
        setting: Setting = DEFAULT,
        synthetic: bool | None = None,
        shared: SharedFeatures | None = None,
    ) -> Prediction:
        """Predict for the scan called ``name``, placed by the run's pipeline.

        Parameters
        ----------
        known: covariates of its subject, by name; age and sex also if the run has no such.
        voxel_hash: of the scan itself, see :class:`uncus.data.imageio.volume.Volume`.
        synthetic: whether it is a phantom; None if unknown.
        shared: features of this scan that other runs have computed.

        Raises
        ------
        BadInput: invalid covariates.
        """
        row = to_row({name: known.get(name) for name in self.covariates}, tuple(self.covariates))
        warnings = (
            *synthetic_warning(self.card),
            *placed.warnings,
            *limit_warnings({name: [value] for name, value in known.items()}),
            *range_warnings(row, self.covariates),
        )
        if voxel_hash in self.training_scans:
            warnings += (
                "the run was trained on this scan; its out-of-fold prediction is in the run's "
                "predictions.tsv",
            )
        shared = shared or SharedFeatures()
        outputs, feature_maps, features = self.outputs(placed, row, shared)
        if not np.isfinite(outputs).all():
            raise BadInput(name, "the networks' outputs are not finite", "check the scan's voxels")
        judged = self.judged(self.reliability.judge(outputs, setting))
        verdict = self.verdict(placed, known, features, synthetic)
        others = [
            one.of_placed(name, placed, known, voxel_hash, synthetic=synthetic, shared=shared)
            for one in self.companions
        ]
        more = companion_answers.added(others)
        if self.brain_age and COLUMN in judged["values"] and not verdict.abstains:
            age = age_and_sex(known)[0]
            more["brain_age"] = self.brain_age.answer(judged["values"][COLUMN], age)
        return Prediction(
            scan=name,
            **judged,
            **more,
            covariates={
                name: float(value) if np.isfinite(value) else None
                for name, value in zip(self.covariates, row, strict=True)
            },
            warnings=tuple(dict.fromkeys((*warnings, *companion_answers.doubts(verdict, others)))),
            model=self.identity,
            placed=placed,
            volumes=measure(segmentation, *age_and_sex(known)) if segmentation else {},
            segmentation=segmentation,
            feature_maps=feature_maps,
            domain=verdict,
        )

    def judged(self, judgement: Judgement) -> dict[str, Any]:
        """A prediction's fields that depend on how its outputs are judged."""
        rows = judgement.members
        members = tuple(dict(zip(self.names, one, strict=True)) for one in rows.tolist())
        mean, spread = (
            dict(zip(self.names, one.tolist(), strict=True)) for one in (rows.mean(0), rows.std(0))
        )
        return {
            "probabilities": mean if self.target.is_classification else {},
            "values": {} if self.target.is_classification else mean,
            "spread": spread,
            "members": members,
            "judgement": judgement,
        }

    def again(self, prediction: Prediction, setting: Setting) -> Prediction:
        """The same scan judged by another setting; raises BadInput as a new prediction does."""
        judgement = self.reliability.judge(prediction.judgement.outputs, setting)
        return replace(prediction, **self.judged(judgement))

    def verdict(
        self,
        placed: Placed,
        known: Mapping[str, str | float | None],
        features: Sequence[Vector],
        synthetic: bool | None,
    ) -> Verdict:
        """Whether a scan is of the run's domain; ``features``: each member's statistics of them."""
        if self.domain is None:
            return Verdict(None, (UNKNOWN,))
        volume = placed.volume
        scan = Scan(
            size=tuple(np.multiply(volume.array.shape, volume.spacing).tolist()),
            age=age_and_sex(known)[0],
            synthetic=synthetic,
            scanner=scanner_of(known),
        )
        image = image_statistics(placed.array)
        return self.domain.check(scan, [image | {"features": features[k]} for k in self.measured])

    @property
    def accepted(self) -> tuple[str, ...]:
        """Names of the covariates that may be given: the run's, and those of the centiles."""
        return tuple(dict.fromkeys((*self.covariates, *(PERSON if self.segment else ()))))

    def known_covariates(
        self, path: Path, volume: Volume, known: Mapping[str, str | float | None]
    ) -> tuple[Mapping[str, str | float | None], tuple[str, ...]]:
        """The `accepted` covariates that are known of the scan's subject, by name, and warnings.

        What is given, ``known``, comes first: tables around the scan are read for the others alone,
        and, if something is given, may be unreadable.
        """
        given = {name: value for name, value in known.items() if value is not None}
        others = [name for name in self.accepted if name not in given]
        if not others:
            return given, ()
        try:
            cells = bids_fields(path)
            lower = {name.lower(): cell for name, cell in cells.items()}
            fields = {
                n: cells.get(n)
                or (lower.get(n) if n in PERSON else None)
                or volume.demographics.get(n.lower())
                or None
                for n in others
            }
            own = [name for name in others if name in self.covariates]
            to_row({name: fields[name] for name in own}, own)  # raises unless they are numbers
        except BadInput as error:
            if not given and self.covariates:
                raise
            return given, (f"{', '.join(others)} not read: {error}.",)
        return {**{name: cell for name, cell in fields.items() if cell}, **given}, ()

    @torch.inference_mode()
    def outputs(
        self, placed: Placed, covariates: Map, shared: SharedFeatures
    ) -> tuple[NDArray[np.float64], tuple[Map, ...], tuple[Vector, ...]]:
        """[members, K]: class probabilities, or values in the target's units; and feature maps.

        ``covariates``: [P], NaN where unknown; ``shared``: the features so far. Each member's
        feature map [1, C, x, y, z] and the statistics of its features are those of the scan, not of
        its mirror image.
        """
        volume, flip = self.tensor(placed), self.card["flip_average"]
        row = torch.from_numpy(covariates)[None].to(self.device)
        rows, maps, statistics = [], [], []
        for network, trunk, member in zip(
            self.networks, self.trunks, self.card["members"], strict=True
        ):
            found = shared.of(network, self.config, trunk, views(volume, flip))
            logits = answer(network, found.maps, row)
            statistics.append(found.statistics)
            output = logits[0].double().cpu()
            if self.target.is_classification:
                rows.append(output.softmax(0).numpy())
            else:
                rows.append(output.numpy() * np.asarray(member["std"]) + np.asarray(member["mean"]))
            maps.append(found.maps[:1].float().cpu().numpy())
        return np.stack(rows), tuple(maps), tuple(statistics)

    def tensor(self, placed: Placed) -> torch.Tensor:
        """The placed scan as a batch [1, 1, X, Y, Z], rounded to float16 like a prepared cohort."""
        stored = placed.array.astype(np.float16).astype(np.float32)
        return torch.from_numpy(stored)[None, None].to(self.device)

    def method(self, prediction: Prediction, requested: str = AUTO) -> str:
        """The saliency method that ``auto`` stands for, chosen by the size of the feature maps; one
        that passed the run's check where that method failed it."""
        if requested != AUTO:
            return requested
        features = min(math.prod(one.shape[2:]) for one in prediction.feature_maps)
        usual = "integrated_gradients" if features < FEW_FEATURES else "grad_cam"
        verdicts = self.verdicts
        if not verdicts.failed(usual):
            return usual
        return next((m for m in SALIENCY if verdicts.methods.get(m) == "passed"), usual)

    def explain(self, prediction: Prediction, method: str = AUTO, name: str = "") -> Explanation:
        """Saliency for the class, or column, ``name``: the mean over the networks' maps.

        Each network's map is divided by its largest absolute value first, so that none outweighs
        the others by its scale. ``name`` defaults to the most probable class.

        Raises
        ------
        ValueError: no such method or class.
        """
        method = self.method(prediction, method)
        name = name or prediction.most_probable or self.names[0]
        if method not in SALIENCY:
            raise ValueError(
                f"unknown saliency method {method!r}; use one of {', '.join(SALIENCY)}"
            )
        if name not in self.names:
            raise ValueError(f"unknown class {name!r}; there are {', '.join(self.names)}")
        volume, index = self.tensor(prediction.placed), self.names.index(name)
        total = torch.zeros(volume.shape[2:])
        feature_maps = prediction.feature_maps or (None,) * len(self.networks)
        for network, feature_map in zip(self.networks, feature_maps, strict=True):
            one = SALIENCY[method](
                network,
                volume,
                index,
                regression=self.target.regression,
                feature_map=None if feature_map is None else volume.new_tensor(feature_map),
            )
            total += (one / one.abs().max().clamp(min=1e-12)).cpu()
        saliency: Map = (total / len(self.networks)).numpy()
        verdicts = self.verdicts
        return Explanation(
            prediction,
            method,
            name,
            saliency,
            self.grid,
            warning=verdicts.warning(method),
            check=verdicts.state(method),
        )


def common_path(paths: Sequence[Path]) -> Path:
    """The path that a scan is named after: its file or folder, or the folder of its files."""
    return paths[0] if len(paths) == 1 else paths[0].parent


def age_and_sex(known: Mapping[str, str | float | None]) -> tuple[float | None, str]:
    """Age in years and sex, "F" or "M", of a subject; None and "" where they are unknown."""
    age, sex = (known.get(name) for name in PERSON)
    years = read_number("" if age is None else str(age).strip())
    code = str(sex or "").strip().lower()
    return years, "" if code not in SEXES else "FM"[int(SEXES[code])]
