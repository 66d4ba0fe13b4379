"""Make a built-in model of a finished run: small, and without what is known of single subjects."""

import re
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save

from uncus.data import files
from uncus.data.errors import BadInput
from uncus.models.weights import read_weights
from uncus.pipeline.model_card.card import header, text
from uncus.pipeline.model_card.evidence import Evidence
from uncus.pipeline.runs import Run

EXACT = ("head.", "covariates.")
"""Weights that stay in float32: they are few, and their sums may cancel."""


def pack(run: Run, folder: Path, space: str = "") -> Run:
    """Write what a prediction needs of ``run`` to a new ``folder``, with its report and its card.

    Weights are rounded to half precision, but for the head's.

    Parameters
    ----------
    space: the one that new scans are placed in, where the run's scans lay in it already and were
        prepared as they were (``--space keep``); by default the run's own.

    Raises
    ------
    BadInput: the folder exists, weights beyond half precision, or a report that names a subject.
    """
    evidence = Evidence.of(run)
    if folder.exists():
        raise BadInput(folder, "exists", "remove it, or choose a new folder")
    shutil.copytree(run.model_folder, folder / run.model_folder.name)
    packed = Run(folder)
    card = deepcopy(run.card)
    for member in card["members"]:
        path = packed.model_folder / member["file"]
        halve(path)
        member["sha256"] = files.sha256(path)
    sums = {member["file"]: member["sha256"] for member in card["members"]}
    card.get("certificate", {})["weights"] = sums
    if space and space != card["space"]:
        card["space"] = space
        card.pop("pipeline", None)  # that of the space
        card.get("domain", {}).pop("slab", None)  # any placed head has the grid's part
    files.write_json(packed.card_path, card)
    packed.seal()
    if evidence.report:
        shutil.copy(run.report_path, packed.report_path)
    if evidence.passport:  # of the same weights, before they were rounded
        files.write_json(packed.passport_path, {**evidence.passport, "weights": sums})
    described = replace(evidence, name=folder.name, card=packed.card, sums=packed.verify())
    files.write_text(packed.model_card_path, header(described) + text(described))
    check_anonymous(run, packed)
    return packed


def halve(path: Path) -> None:
    """Round the weights in a file to half precision; raises BadInput where one is too large."""
    state = {
        name: value.half() if value.is_floating_point() and not name.startswith(EXACT) else value
        for name, value in read_weights(path).items()
    }
    if wide := [name for name, value in state.items() if not torch.isfinite(value).all()]:
        raise BadInput(path, f"{wide[0]} is beyond half precision", "ship it as it is")
    content = save(state)
    files.write_atomically(path, lambda target: target.write_bytes(content))


def check_anonymous(run: Run, packed: Run) -> None:
    """Raise BadInput where a text of a packed run has the name of one of the run's subjects."""
    names = set(run.scans()["participant_id"])
    for path in sorted(packed.path.rglob("*")):
        if path.suffix in {".json", ".md"}:
            found = names & set(re.findall(r"sub-[A-Za-z0-9]+", path.read_text(encoding="utf-8")))
            if found:
                raise BadInput(path, f"names {min(found)}", "leave the file out")
