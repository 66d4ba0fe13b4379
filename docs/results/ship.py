"""Make one of the models that come with uncus from a finished run.

    python docs/results/ship.py RUN OUT

The networks of all folds must have the same frozen trunk: they become one, whose head is the mean
of theirs, which gives the mean of their outputs. Nothing of a single subject is copied.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from uncus.data import files
from uncus.data.transforms.path import scan_pipeline
from uncus.models.base import Classifier
from uncus.models.build import ModelConfig, build_model
from uncus.models.weights import load_weights, save_weights, trunk_hash
from uncus.pipeline.model_card.packing import accompany
from uncus.pipeline.prediction.trained_networks import read_grid, read_reference
from uncus.pipeline.runs import Run


def merged(networks: list[Classifier], members: list[dict[str, Any]]) -> Classifier:
    """The first network with the mean of all heads; ``members`` get the same standardization."""
    if len({trunk_hash(network) for network in networks}) > 1:
        sys.exit("the networks' trunks differ")
    count = len(networks)
    mean, std = (
        np.mean([one.get(name, default) for one in members], 0)
        for name, default in (("mean", 0.0), ("std", 1.0))
    )
    first, weights, biases, terms = networks[0], [], [], []
    if first.covariates:
        centers = [network.covariates.mean for network in networks]  # type: ignore[union-attr]
        spreads = [network.covariates.spread for network in networks]  # type: ignore[union-attr]
        center, spread = torch.stack(centers).mean(0), torch.stack(spreads).mean(0)
    for network, member in zip(networks, members, strict=True):
        scale = np.atleast_1d(member.get("std", 1.0) / std)[:, None]
        weight, bias = (
            p.detach().double().numpy() for p in (network.head.weight, network.head.bias)
        )
        if network.covariates:
            # z of this network is a z + b of the mean's, so w z + v z^2 is its polynomial too.
            own = network.covariates
            a, b = (float(x) for x in (spread / own.spread, (center - own.mean) / own.spread))
            w, v = own.weight.detach().double().numpy().T
            terms.append(np.stack([w * a + 2 * v * a * b, v * a * a], 1))
            bias = bias + w * b + v * b * b
        weights.append(weight * scale)
        biases.append(
            (bias * np.atleast_1d(member.get("std", 1.0)) + member.get("mean", 0.0) - mean) / std
        )
    with torch.no_grad():
        first.head.weight.copy_(torch.from_numpy(sum(weights) / count))
        first.head.bias.copy_(torch.from_numpy(sum(biases) / count))
        if first.covariates:
            first.covariates.weight.copy_(torch.from_numpy(sum(terms) / count))
            first.covariates.mean.copy_(center)
            first.covariates.spread.copy_(spread)
    for member in members:
        if "mean" in member:
            member |= {"mean": mean.tolist(), "std": std.tolist()}
    return first


def ship(run: Run, out: Run) -> None:
    """Write the model folder and the evidence of ``run`` to ``out``."""
    run.verify()
    card, members = dict(run.card), [dict(one) for one in run.card["members"]]
    networks = []
    for member in members:
        network = build_model(ModelConfig.from_dict(card["model"]))
        load_weights(network, run.model_folder / member["file"])
        networks.append(network)
    network = merged(networks, members)
    network.unet.half()  # type: ignore[operator, union-attr]
    shutil.rmtree(out.path, ignore_errors=True)
    out.model_folder.mkdir(parents=True)
    member = members[0] | {"file": "mean.safetensors"}
    path = out.model_folder / member["file"]
    save_weights(network, path)
    card["members"] = [member | {"sha256": files.sha256(path)}]
    shutil.copy(run.reference_path, out.reference_path)
    tensors = load_file(run.domain_path)
    save_file({k: v for k, v in tensors.items() if k.startswith("0.")}, out.domain_path)
    # A slab in ICBM152, cut from whole heads that are registered to it.
    grid = read_grid(run)
    card |= {"space": "mni", "domain": card["domain"] | {"slab": False}}
    card["pipeline"] = scan_pipeline("mni", grid, read_reference(run, grid)).describe()
    for name in ("results", "certificate"):
        card.pop(name, None)
    files.write_json(out.card_path, card)
    out.seal()
    accompany(run, Run(out.path))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    ship(Run(Path(sys.argv[1])), Run(Path(sys.argv[2])))
