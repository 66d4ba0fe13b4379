"""From a scan's file to an answer: the one way in for the command line, the page and the tests."""

import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import tyro
from matplotlib.figure import Figure
from numpy.typing import NDArray
from safetensors.numpy import load_file

from uncus import NOTICE
from uncus.data import atlas, files
from uncus.data.cohorts.bids import fields_beside
from uncus.data.cohorts.scans import write_table
from uncus.data.design import covariates
from uncus.data.dicom import reader
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import Volume, native_array, read_scan, write_native
from uncus.data.quality_control import Reference, check_quality
from uncus.data.space import Grid, Placed, place, to_scan
from uncus.models.base import Classifier
from uncus.models.build import build_model
from uncus.models.inference import predict, torch_trunk
from uncus.models.weights import load_weights
from uncus.pipeline.prediction import openvino_engine as engines
from uncus.pipeline.progress_bars import track
from uncus.pipeline.rendering.slices import three_planes
from uncus.pipeline.runs import Run
from uncus.pipeline.saliency.registry import SALIENCY
from uncus.pipeline.training import model_card

Map = NDArray[np.float32]

AUTO = "auto"
FEW_FEATURES = 27
"""A feature map of fewer voxels, 3 on each axis, cannot say where in a brain."""


@dataclass(frozen=True)
class Prediction:
    """An answer about one scan.

    ``probabilities`` (classification) or ``values`` (regression, in the target's units) are means
    over the run's networks; ``members`` holds what each network says, ``spread`` their standard
    deviation. ``covariates`` is what was known of the person besides the scan, None where it was
    not and the training people's mean was taken. ``placed`` is the scan as the networks saw it,
    ``feature_maps`` each network's last feature map of it, [1, C, x, y, z].
    """

    scan: str
    probabilities: Mapping[str, float]
    values: Mapping[str, float]
    spread: Mapping[str, float]
    members: tuple[Mapping[str, float], ...]
    covariates: Mapping[str, float | None]
    warnings: tuple[str, ...]
    model: Mapping[str, Any]
    placed: Placed = field(repr=False)
    feature_maps: tuple[Map, ...] = field(default=(), repr=False)

    @property
    def label(self) -> str | None:
        """The most probable class; none for a regression."""
        return max(self.probabilities, key=self.probabilities.__getitem__, default=None)

    def as_dict(self) -> dict[str, Any]:
        """What prediction.json holds."""
        answer: dict[str, Any] = {"scan": self.scan}
        if self.probabilities:
            answer |= {"label": self.label, "probabilities": dict(self.probabilities)}
        else:
            answer |= {"values": dict(self.values)}
        return answer | {
            "calibrated": False,
            "spread": dict(self.spread),
            "members": [dict(member) for member in self.members],
            **({"covariates": dict(self.covariates)} if self.covariates else {}),
            "warnings": list(self.warnings),
            "model": dict(self.model),
            "notice": NOTICE,
        }


class Predictor:
    """The networks of a run, ready to answer.

    Parameters
    ----------
    run: folder of ``uncus train``; only its ``model`` folder is read.
    device: where the networks compute.
    engine: what computes feature maps: torch, openvino or openvino-bf16, or auto for what pays on
        the run's volumes.

    Attributes
    ----------
    engine: the one that was taken, "torch", "openvino" or "openvino-bf16".
    engine_refused: why it is not OpenVINO although that was tried; empty otherwise.

    Raises
    ------
    BadInput: not a finished run, a damaged or foreign file in it, or a newer schema.
    ValueError: the engine that is asked for cannot be had.
    """

    def __init__(
        self, run: Path | str, device: str = "cpu", engine: engines.Engine = "auto"
    ) -> None:
        self.run, self.device = Run(Path(run)), torch.device(device)
        sums = self.run.verify()
        self.card = self.run.card
        source = self.run.card_path
        try:
            self.grid = Grid.from_dict(self.card["grid"])
            tensors = load_file(self.run.reference_path)
            self.reference = Reference.from_state(tensors, self.card["reference"])
            config = model_card.model_config(self.card, source)
            self.target = self.run.target
            self.covariates = self.card.get("covariates", {})
            self.networks = tuple(self.network(config, m["file"]) for m in self.card["members"])
        except (KeyError, TypeError) as error:
            raise BadInput(source, f"lacks or garbles {error}", "copy the model again") from error
        if len(self.target.names) != config.classes:
            raise BadInput(
                source,
                f"names {len(self.target.names)} classes for a network of {config.classes}",
                "copy the model again",
            )
        if len(self.covariates) != config.covariates:
            raise BadInput(
                source,
                f"names {len(self.covariates)} covariates for a network of {config.covariates}",
                "copy the model again",
            )
        self.trunks = tuple(torch_trunk(network) for network in self.networks)
        self.engine_refused = ""
        self.engine = engines.choose(engine, self.device, math.prod(self.grid.shape))
        if self.engine != "torch":
            shape = (2 if self.card["flip_average"] else 1, 1, *self.grid.shape)
            try:
                self.trunks = engines.openvino_trunks(
                    self.networks,
                    config,
                    shape,
                    if_faster=engine == "auto",
                    engine=self.engine,
                )
            except ValueError as error:
                self.engine, self.engine_refused = "torch", str(error)
        self.identity = {
            "run": self.run.path.name,
            "backbone": config.backbone,
            "norm": config.norm,
            "networks": len(self.networks),
            "engine": self.engine,
            "uncus": self.card["versions"]["uncus"],
            "card_sha256": sums[source.name],
        }

    def network(self, config: Any, name: str) -> Classifier:
        """One member's network with its weights, ready to predict."""
        model = build_model(config)
        load_weights(model, self.run.model_folder / name)
        return model.eval().to(self.device)

    @property
    def names(self) -> tuple[str, ...]:
        """Classes, or a regression's columns, in the order of the networks' outputs."""
        return self.target.names

    def __call__(
        self,
        path: Path | str | Sequence[Path],
        step: Callable[[str], object] = str,
        series: str = "",
        known: Mapping[str, str | float | None] = MappingProxyType({}),
    ) -> Prediction:
        """Answer for the scan in ``path``; raises BadInput where it may not be judged.

        Several paths are the DICOM files of one scan.
        ``step`` is told what is done next; ``series`` chooses among several DICOM series;
        ``known`` is what the run takes besides the scan, ``{"age": 72}``; what is left out is
        looked for in the tables of the BIDS tree around the scan, and in a DICOM header.
        """
        paths = (Path(path),) if isinstance(path, str | Path) else tuple(path)
        path = whole(paths)
        covariates.given(known, tuple(self.covariates))  # refused before anything is read
        step("Reading")
        volume = read_scan(paths, series=series)
        person = self.person(path, volume, known)
        step("Placing")
        placed = place(volume, self.grid, self.card["space"])
        doubts = covariates.doubts(person, self.covariates)
        warnings = (*placed.warnings, *check_quality(placed, self.reference), *doubts)
        if placed.volume.voxel_hash in self.card["training"]["voxel_hashes"]:
            warnings += (
                "this scan was used to make the run; its honest prediction is the one in the run's "
                "predictions.tsv",
            )
        step("Predicting")
        outputs, feature_maps = self.outputs(placed, person)
        if not np.isfinite(outputs).all():
            raise BadInput(path, "the networks gave no finite answer", "look at the scan's voxels")
        names = self.names
        members = tuple(dict(zip(names, row.tolist(), strict=True)) for row in outputs)
        mean = dict(zip(names, outputs.mean(0).tolist(), strict=True))
        return Prediction(
            scan=path.name,
            probabilities=mean if self.target.is_classification else {},
            values={} if self.target.is_classification else mean,
            spread=dict(zip(names, outputs.std(0).tolist(), strict=True)),
            members=members,
            covariates={
                name: float(value) if np.isfinite(value) else None
                for name, value in zip(self.covariates, person, strict=True)
            },
            warnings=tuple(dict.fromkeys(warnings)),
            model=self.identity,
            placed=placed,
            feature_maps=feature_maps,
        )

    def person(
        self, path: Path, volume: Volume, known: Mapping[str, str | float | None]
    ) -> NDArray[np.float32]:
        """The run's covariates [P] of one person, NaN where neither given nor found."""
        found: dict[str, str | float | None] = {}
        if self.covariates:
            told = (volume.person, fields_beside(path))
            beside = {name: cell for fields in told for name, cell in fields.items() if cell}
            found = {name: beside[name] for name in self.covariates if beside.get(name)}
        found |= {name: value for name, value in known.items() if value is not None}
        return covariates.given(found, tuple(self.covariates))

    @torch.inference_mode()
    def outputs(
        self, placed: Placed, person: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], tuple[Map, ...]]:
        """[members, K]: class probabilities, or values in the target's units; and feature maps.

        ``person``: covariates [P], NaN where not known. Each member's feature map [1, C, x, y, z]
        is that of the scan, not of its mirror image.
        """
        volume, flip = self.tensor(placed), self.card["flip_average"]
        besides = torch.from_numpy(person)[None].to(self.device)
        rows, maps = [], []
        for network, trunk, member in zip(
            self.networks, self.trunks, self.card["members"], strict=True
        ):
            answered, feature_map = predict(network, volume, flip, besides, trunk)
            output = answered[0].double().cpu()
            if self.target.is_classification:
                rows.append(output.softmax(0).numpy())
            else:
                rows.append(output.numpy() * np.asarray(member["std"]) + np.asarray(member["mean"]))
            maps.append(feature_map.float().cpu().numpy())
        return np.stack(rows), tuple(maps)

    def tensor(self, placed: Placed) -> torch.Tensor:
        """The placed scan as a batch of one [1, 1, X, Y, Z]; rounded as the cohort stores it."""
        stored = placed.array.astype(np.float16).astype(np.float32)
        return torch.from_numpy(stored)[None, None].to(self.device)

    def method(self, prediction: Prediction, asked: str = AUTO) -> str:
        """The saliency method that ``auto`` stands for, by how much place a feature map has."""
        if asked != AUTO:
            return asked
        features = min(math.prod(found.shape[2:]) for found in prediction.feature_maps)
        return "integrated_gradients" if features < FEW_FEATURES else "grad_cam"

    def explain(self, prediction: Prediction, method: str, name: str | None = None) -> Map:
        """Saliency [X, Y, Z] on the run's grid for class (or column) ``name``; mean over networks.

        Each network's map is divided by its largest absolute value first, so that none outvotes
        the others by its scale. The class defaults to the most probable one.
        """
        if method not in SALIENCY:
            raise ValueError(f"unknown saliency method {method!r}; there are {', '.join(SALIENCY)}")
        name = name or prediction.label or self.names[0]
        if name not in self.names:
            raise ValueError(f"unknown class {name!r}; there are {', '.join(self.names)}")
        volume, index = self.tensor(prediction.placed), self.names.index(name)
        total = torch.zeros(volume.shape[2:])
        known = prediction.feature_maps or (None,) * len(self.networks)
        for network, feature_map in zip(self.networks, known, strict=True):
            one = SALIENCY[method](
                network,
                volume,
                index,
                regression=self.target.regression,
                feature_map=None if feature_map is None else volume.new_tensor(feature_map),
            )
            total += (one / one.abs().max().clamp(min=1e-12)).cpu()
        mean: Map = (total / len(self.networks)).numpy()
        return mean

    def on_scan(self, prediction: Prediction, saliency: Map) -> Map:
        """A map on the run's grid, on the scan's own voxels (RAS+ order, as ``Volume.array``)."""
        return to_scan(saliency, self.grid, prediction.placed)


def whole(paths: Sequence[Path]) -> Path:
    """What a scan is called after: its file or folder, or the folder of its several files."""
    return paths[0] if len(paths) == 1 else paths[0].parent


def scan_name(path: Path) -> str:
    """The name of the scan's file or folder without extension."""
    name = path.name or path.resolve().name
    return re.sub(r"\.(nii|hdr|img|mgz|mgh|zip|dcm)(\.gz)?$", "", name, flags=re.IGNORECASE)


def write(
    folder: Path, prediction: Prediction, saliency: Map, method: str, name: str
) -> dict[str, Any]:
    """Write prediction.json, saliency.nii.gz on the scan's own grid, saliency.png to ``folder``.

    Where the scan was registered to MNI152, atlas.tsv as well. Returns what prediction.json holds:
    the answer, the map's method, and "regions", or "no_regions" with the reason.
    """
    write_saliency(folder / "saliency", prediction, saliency, method, name)
    answer = prediction.as_dict() | {"saliency": method}
    answer |= write_regions(folder / "atlas.tsv", prediction, saliency)
    files.write_json(folder / "prediction.json", answer)
    return answer


def write_regions(path: Path, prediction: Prediction, saliency: Map) -> dict[str, Any]:
    """The table of regions of a map on the scan's voxels (RAS+), where the scan was registered.

    Returns "regions" (the rows) and "atlas" (its credit), or "no_regions" with the reason.
    """
    if reason := atlas.why_no_regions(prediction.placed):
        return {"no_regions": reason}
    rows = atlas.regions(prediction.placed, saliency)
    write_table(path, pd.DataFrame(rows))
    return {"regions": rows, "atlas": atlas.CREDIT}


def write_saliency(
    stem: Path, prediction: Prediction, saliency: Map, method: str, name: str
) -> None:
    """A map on the scan's voxels (RAS+) as ``stem``.nii.gz and as a three-plane ``stem``.png."""
    volume = prediction.placed.volume
    stem.parent.mkdir(parents=True, exist_ok=True)
    write_native(
        stem.with_name(f"{stem.name}.nii.gz"), native_array(volume, saliency), volume.native
    )
    figure = picture(prediction, saliency, method, name)
    files.write_atomically(
        stem.with_name(f"{stem.name}.png"),
        lambda path: figure.savefig(path, format="png", dpi=110, facecolor="black"),
    )


def picture(prediction: Prediction, saliency: Map, method: str, name: str) -> Figure:
    """Three planes of the scan with a map on its voxels (RAS+)."""
    volume = prediction.placed.volume
    return three_planes(
        volume.array,
        volume.affine,
        saliency,
        title=caption(prediction, name),
        label=method,
        note=NOTICE,
    )


@dataclass(frozen=True)
class Predict:
    """Probabilities (or values) and a saliency map for scans; no label is needed.

    Writes OUT/<scan>/prediction.json, saliency.nii.gz on the scan's own grid, saliency.png and,
    where the run's space is mni, atlas.tsv.
    """

    trained: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of uncus train."""
    scans: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SCAN...")]
    """T1w volumes: NIfTI, Analyze, MGZ, or a DICOM series as a folder, a zip or its files."""
    out: Path | None = None
    """Folder for the results; without it they are only printed."""
    method: str = AUTO
    """Saliency: grad_cam, grad_cam_pp, integrated_gradients, occlusion or gradient; auto takes
    Grad-CAM, or integrated gradients where the last feature map is too small to say where."""
    explain: Annotated[str, tyro.conf.arg(name="class", metavar="NAME")] = ""
    """Class to explain; the most probable one when left out."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON: an object for one scan, a list for several."""
    series: str = ""
    """Which DICOM series, where there are several: its number in the list, its UID, or words of
    its description."""
    covariates: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE...")] = ()
    """What a run that was trained with --covariates takes besides the scan: age=72 sex=F; left out,
    it is looked for in the participants.tsv of the BIDS tree that the scan lies in, and in a DICOM
    header."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 ..."""
    engine: engines.Engine = "auto"
    """What computes the networks: torch, or openvino (the extra fast, on a CPU); auto takes
    OpenVINO for several scans of a size where it pays. openvino-bf16 has two or three digits right
    and is meant for CPUs with AMX; uncus bench predict tells whether it pays."""

    def run(self) -> int:
        """Predict every scan; 0 when all were answered, 1 when some failed, 2 when none was."""
        if not self.scans:
            raise ValueError("no scan given; uncus predict RUN SCAN... --out DIR")
        scans = reader.gather(self.scans)
        names = [scan_name(whole(paths)) for paths in scans]
        twice = sorted({name for name in names if names.count(name) > 1})
        if self.covariates and len(scans) > 1:
            raise ValueError("--covariates is about one person; give the scans in separate calls")
        if self.out and twice:
            raise ValueError(f"several scans are called {twice[0]}; give them in separate calls")
        if self.out:
            check_writable(self.out)
        # For a single scan loading another engine takes longer than it saves.
        several = len(scans) > 2 or self.engine != "auto"
        predictor = Predictor(self.trained, self.device, self.engine if several else "torch")
        if self.engine != "auto" and predictor.engine_refused:
            print(f"uncus: {predictor.engine_refused}; torch computes instead", file=sys.stderr)
        answers: list[dict[str, Any] | None] = []
        failures: list[BadInput] = []
        for paths in track(scans, "predicting"):
            try:
                answers.append(self.one(predictor, paths))
            except BadInput as error:
                failures.append(error)
        if failures and not answers:
            raise failures[0] if len(failures) == 1 else ValueError(" | ".join(map(str, failures)))
        if self.as_json:
            print(json.dumps(answers if len(scans) > 1 else answers[0], indent=2))
        report_failures(failures)
        return 1 if failures else 0

    def one(self, predictor: Predictor, paths: tuple[Path, ...]) -> dict[str, Any]:
        """Predict one scan, write and print what was asked for."""
        known = covariates.parse(self.covariates)
        prediction = predictor(paths, series=self.series, known=known)
        answer = prediction.as_dict()
        if self.out:
            method = predictor.method(prediction, self.method)
            saliency = predictor.explain(prediction, method, self.explain or None)
            on_scan = predictor.on_scan(prediction, saliency)
            folder = self.out / scan_name(whole(paths))
            answer = write(folder, prediction, on_scan, method, self.explain)
        if not self.as_json:
            print(sentence(prediction))
        return answer


def sentence(prediction: Prediction) -> str:
    """The answer as a line to read, its warnings below."""
    if prediction.probabilities:
        shares = prediction.probabilities.items()
        said = "  ".join(f"{n} {p:.3f} ± {prediction.spread[n]:.3f}" for n, p in shares)
    else:
        values = prediction.values.items()
        said = "  ".join(f"{n} {v:.4g} ± {prediction.spread[n]:.2g}" for n, v in values)
    lines = [f"{prediction.scan}: {said}  (± over {len(prediction.members)} networks) {NOTICE}"]
    return "\n".join([*lines, *(f"  warning: {warning}" for warning in prediction.warnings)])


def caption(prediction: Prediction, name: str = "") -> str:
    """What a saliency picture shows: the scan and the answer that is explained."""
    if prediction.probabilities:
        name = name or prediction.label or ""
        return (
            f"{prediction.scan}: what speaks for {name}, P = {prediction.probabilities[name]:.2f}"
        )
    name = name or next(iter(prediction.values))
    return f"{prediction.scan}: what raises {name}, estimated {prediction.values[name]:.4g}"


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written before any work is done."""
    probe = folder / ".uncus"
    files.write_text(probe, "")
    probe.unlink()


def report_failures(failures: Sequence[Exception]) -> None:
    """One line a scan that was refused."""
    for failure in failures:
        print(f"uncus: {failure}", file=sys.stderr)
