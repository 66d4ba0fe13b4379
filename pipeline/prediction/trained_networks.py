"""Load a run's pipeline and networks: what their files must fit before memory is spent on them."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from uncus.data.errors import BadInput
from uncus.data.geometry.grid import Grid
from uncus.data.imageio.volume import Limits
from uncus.data.quality_control import Reference
from uncus.data.transforms.path import ScanPipeline, rebuild, scan_pipeline
from uncus.models.base import Classifier
from uncus.models.build import ModelConfig, build_model
from uncus.models.weights import check_header, load_weights
from uncus.pipeline.config import from_dict
from uncus.pipeline.runs import COPY, Run
from uncus.pipeline.trust.domain import Domain
from uncus.pipeline.trust.reliability import Reliability
from uncus.pipeline.trust.statistics import feature_count, image_statistics


def read_grid(run: Run) -> Grid:
    """The grid of the run's networks; raises BadInput where it has more voxels than any scan."""
    grid = Grid.from_dict(run.card["grid"])
    if math.prod(grid.shape) > Limits().voxels:
        size = " x ".join(map(str, grid.shape))
        raise BadInput(run.card_path, f"its grid has {size} voxels", COPY)
    return grid


def read_reference(run: Run, grid: Grid) -> Reference:
    """The statistics of the training scans, on ``grid``.

    Raises
    ------
    BadInput: not a reference, one on another grid, or values that are not finite.
    """
    path = run.reference_path
    try:
        check_header(path)
        reference = Reference.from_state(load_file(path), run.card["reference"])
    except (SafetensorError, ValueError) as error:
        raise BadInput(path, f"cannot be read ({error})", COPY) from error
    if reference.mean.shape != grid.shape:
        cause = f"is on a grid of {reference.mean.shape}, the networks on one of {grid.shape}"
        raise BadInput(path, cause, COPY)
    if not np.isfinite(reference.mean).all():
        raise BadInput(path, "has values that are not finite", COPY)
    return reference


def read_domain(run: Run, grid: Grid, networks: Sequence[Classifier]) -> Domain | None:
    """The run's domain; None in a run of an earlier version.

    Parameters
    ----------
    networks: each fold's, see :func:`measured`.

    Raises
    ------
    BadInput: its distributions do not fit the networks.
    """
    known, path, sizes = run.card.get("domain"), run.domain_path, []
    if known is None:
        return None
    if "limits" in known:
        image = {
            n: len(one) for n, one in image_statistics(np.ones(grid.shape, np.float32)).items()
        }
        sizes = [image | {"features": feature_count(network)} for network in networks]
    ages = run.card["training"].get("age_years")
    try:
        if sizes:
            check_header(path)
        tensors = load_file(path) if sizes else {}
        return Domain.of(known, tensors, sizes, ages and (ages["min"], ages["max"]))
    except (SafetensorError, ValueError) as error:
        raise BadInput(path, f"cannot be read ({error})", COPY) from error


def measured(run: Run) -> tuple[int, ...]:
    """The members that the domain is known of: each fold's of the first seed."""
    members = run.card["members"]
    return tuple(k for k, one in enumerate(members) if one["seed"] == members[0]["seed"])


def read_pipeline(run: Run) -> ScanPipeline:
    """The path of a scan to the networks' input, as the card describes it.

    Raises
    ------
    BadInput: its steps or parameters are unknown or unsuitable, or see :func:`read_reference`.
    """
    grid = read_grid(run)
    reference = read_reference(run, grid)
    default = scan_pipeline(run.card["space"], grid, reference)
    try:  # a run of an earlier version does not describe it
        return rebuild(run.card.get("pipeline", default.describe()), default)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(run.card_path, f"describes no valid pipeline ({error})", COPY) from error


def read_reliability(run: Run) -> Reliability:
    """The run's calibration and conformal sets; raises BadInput where they are of other classes."""
    try:
        return Reliability.from_card(run.card, run.target)
    except KeyError as error:
        cause = f"has no calibration or conformal set of {error}"
        raise BadInput(run.card_path, cause, COPY) from error


def read_networks(run: Run, device: torch.device) -> tuple[ModelConfig, tuple[Classifier, ...]]:
    """The architecture, and each member's network with its weights, in evaluation mode.

    Raises
    ------
    BadInput: no such architecture, one that does not fit the target and the covariates, or weights
        that do not fit it.
    """
    card, source = run.card, run.card_path
    config = from_dict(ModelConfig, card["model"], source)
    for kind, names, count in (
        ("classes", run.target.names, config.classes),
        ("covariates", card.get("covariates", {}), config.covariates),
    ):
        if len(names) != count:
            raise BadInput(source, f"lists {len(names)} {kind} for a network of {count}", COPY)
    networks = []
    for member in card["members"]:
        try:
            with torch.device("meta"):  # no memory for what the weights may not fit
                network = build_model(config)
        except ValueError as error:
            raise BadInput(source, str(error), COPY) from error
        load_weights(network, run.model_folder / member["file"])
        networks.append(network.eval().to(device))
    return config, tuple(networks)
