"""One network in place of those of all folds, where these differ in their heads alone."""

import shutil
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from uncus.data import files
from uncus.data.errors import BadInput
from uncus.models.base import Classifier
from uncus.models.build import ModelConfig, build_model
from uncus.models.covariates import Covariates
from uncus.models.weights import load_weights, save_weights, trunk_hash
from uncus.pipeline.runs import Run

Array = NDArray[np.float64]
FILE = "mean.safetensors"


def merge(run: Run, folder: Path) -> Run:
    """Copy a finished run to a new ``folder`` with one network, the mean of the run's.

    Its output, before the softmax, is the mean of theirs. The domain is that of the first fold.

    Raises
    ------
    BadInput: the folder exists, or the networks' trunks differ.
    """
    run.verify()
    if folder.exists():
        raise BadInput(folder, "exists", "remove it, or choose a new folder")
    card, networks = deepcopy(run.card), []
    for member in card["members"]:
        network = build_model(ModelConfig.from_dict(card["model"]))
        load_weights(network, run.model_folder / member["file"])
        networks.append(network)
    if len(set(map(trunk_hash, networks))) > 1:
        raise BadInput(run.path, "its networks differ before their heads", "pack it as it is")
    mean = mean_network(networks, card["members"])
    shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("fold-*"))
    merged = Run(folder)
    save_weights(mean, merged.model_folder / FILE)
    first = card["members"][0] | {"file": FILE}
    card["members"] = [first | {"sha256": files.sha256(merged.model_folder / FILE)}]
    files.write_json(merged.card_path, card)
    if run.domain_path.exists():
        parts = load_file(run.domain_path).items()
        save_file({name: one for name, one in parts if name.startswith("0.")}, merged.domain_path)
    merged.seal()
    return merged


def mean_network(networks: Sequence[Classifier], members: Sequence[dict[str, Any]]) -> Classifier:
    """The first of ``networks``, with the mean of all heads and of all terms of covariates.

    Parameters
    ----------
    members: of the card, changed in place: those of a regression get the mean standardization.
    """
    scales = [np.atleast_1d(one.get("std", 1.0)) for one in members]
    offsets = [np.atleast_1d(one.get("mean", 0.0)) for one in members]
    scale, offset = np.mean(scales, 0), np.mean(offsets, 0)
    layers = [network.covariates for network in networks if network.covariates]
    terms = mean_covariates(layers, [own / scale for own in scales])
    weights, biases = [], []
    for k, (network, own, center) in enumerate(zip(networks, scales, offsets, strict=True)):
        weight, bias = (
            p.detach().double().numpy() for p in (network.head.weight, network.head.bias)
        )
        weights.append(weight * (own / scale)[:, None])
        biases.append(((bias + (terms[1][k] if terms else 0)) * own + center - offset) / scale)
    mean = networks[0]
    with torch.no_grad():
        mean.head.weight.copy_(torch.from_numpy(np.mean(weights, 0)))
        mean.head.bias.copy_(torch.from_numpy(np.mean(biases, 0)))
    if terms:
        mean.covariates = terms[0]
    for member in members:
        if "mean" in member:
            member |= {"mean": offset.tolist(), "std": scale.tolist()}
    return mean


def mean_covariates(
    layers: Sequence[Covariates], scales: Sequence[Array]
) -> tuple[Covariates, list[Array]] | None:
    """The mean of terms, around the mean of their centers; what each adds to its bias [K].

    Parameters
    ----------
    scales: by which the terms count [K].
    """
    if not layers:
        return None
    classes, (first, *_) = len(layers[0].weight), layers
    count, degree = len(first.mean), first.degree
    mean = Covariates(count, classes, degree)
    with torch.no_grad():
        mean.mean.copy_(torch.stack([one.mean for one in layers]).mean(0))
        mean.spread.copy_(torch.stack([one.spread for one in layers]).mean(0))
        total, constants = np.zeros((degree, classes, count)), []
        for layer, scale in zip(layers, scales, strict=True):
            a = (mean.spread / layer.spread).double().numpy()
            b = ((mean.mean - layer.mean) / layer.spread).double().numpy()
            own = layer.weight.double().numpy().reshape(classes, degree, count)
            constant = np.zeros(classes)
            for k in range(classes):
                for p in range(count):
                    # z of this layer is a u + b of the mean's u.
                    powers = np.poly1d([a[p], b[p]])
                    polynomial = np.poly1d([*own[k, ::-1, p], 0.0])(powers)
                    rising = [*polynomial.coeffs[::-1], *[0.0] * degree][: degree + 1]
                    constant[k] += rising[0]
                    total[:, k, p] += np.multiply(rising[1:], np.broadcast_to(scale, classes)[k])
            constants.append(constant)
        weight = (total / len(layers)).transpose(1, 0, 2).reshape(classes, -1)
        mean.weight.copy_(torch.from_numpy(weight))
    return mean, constants
