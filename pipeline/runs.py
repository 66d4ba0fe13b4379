"""The run folder: the only code that knows its layout.

::

    RUN/  config.json environment.json splits.tsv scans.tsv predictions.tsv report.html report.json
          fold-K/  metrics.csv predictions.tsv checkpoints/last.ckpt checkpoints/best.safetensors
          model/   card.json reference.safetensors fold-K.safetensors SHA256SUMS

With several seeds a member's folder and weights are called ``fold-K_seed-S``. ``model/`` alone is
all that a prediction needs; it holds no pickle, and a SHA-256 of every file.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from uncus.data import files
from uncus.data.cohorts.scans import read_table, write_table
from uncus.data.design.splits import Splits
from uncus.data.design.targets import Target
from uncus.data.errors import BadInput

SCHEMA = 1
"""Version of the layout and of ``card.json``; a newer one is refused."""


@dataclass(frozen=True)
class Member:
    """One network of a run: a fold and a seed."""

    fold: int
    seed: int
    name: str


def members(folds: int, seed: int, seeds: int) -> tuple[Member, ...]:
    """The networks of a run, seed by seed within each fold."""
    return tuple(
        Member(fold, seed + s, f"fold-{fold}" if seeds == 1 else f"fold-{fold}_seed-{seed + s}")
        for fold in range(folds)
        for s in range(seeds)
    )


class Run:
    """A run folder. Reading what is not there, or is damaged, raises BadInput."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    # What a run is made from

    @cached_property
    def config(self) -> dict[str, Any]:
        """The training verb's options, as saved."""
        return self.read_object("config.json")

    @property
    def environment(self) -> dict[str, Any]:
        """Versions and devices at the start, and the cohort's fingerprint."""
        return self.read_object("environment.json")

    @property
    def target(self) -> Target:
        """What the run predicts."""
        target = self.card["target"]
        return Target(
            columns=tuple(target["columns"]),
            classes={name: tuple(values) for name, values in target["classes"].items()},
            regression=target["regression"],
        )

    def splits(self) -> Splits:
        """Who was trained, validated and tested on, fold by fold."""
        return Splits.load(self.path / "splits.tsv")

    def scans(self) -> pd.DataFrame:
        """The scans used, one a row, with every field of the cohort as a string."""
        return self.read_table("scans.tsv")

    # What a member leaves

    def member_folder(self, member: Member) -> Path:
        """Where a member keeps its checkpoints, metrics and predictions."""
        return self.path / member.name

    def checkpoint(self, member: Member) -> Path:
        """The state from which a broken member goes on."""
        return self.member_folder(member) / "checkpoints" / "last.ckpt"

    def best_weights(self, member: Member) -> Path:
        """The weights with the best validation score so far."""
        return self.member_folder(member) / "checkpoints" / "best.safetensors"

    def weights(self, member: Member) -> Path:
        """The member's final weights; when they are there, the member is done."""
        return self.model_folder / f"{member.name}.safetensors"

    def metrics(self, member: Member) -> Path:
        """One row an epoch."""
        return self.member_folder(member) / "metrics.csv"

    def member_predictions(self, member: Member) -> Path:
        """The member's predictions on its test and holdout scans."""
        return self.member_folder(member) / "predictions.tsv"

    def training_curves(self) -> dict[str, pd.DataFrame]:
        """Member name -> its metrics, one row an epoch."""
        found = sorted(self.path.glob("fold-*/metrics.csv"))
        return {path.parent.name: pd.read_csv(path) for path in found}

    # What is left when all members are done

    def predictions(self) -> pd.DataFrame:
        """Predictions of every member on scans that it never saw, one row (scan, fold, seed)."""
        table = self.read_table("predictions.tsv")
        numeric = [c for c in table.columns if c.startswith(("p_", "pred_", "true_"))]
        for column in [*numeric, "fold", "seed"]:
            table[column] = pd.to_numeric(table[column].replace("", None))
        return table

    @property
    def model_folder(self) -> Path:
        """All that a prediction needs."""
        return self.path / "model"

    @cached_property
    def card(self) -> dict[str, Any]:
        """The model card, as data; a newer schema is refused."""
        path = self.model_folder / "card.json"
        if not path.exists():
            unfinished = (self.path / "config.json").exists()
            raise BadInput(
                self.path,
                "training is not finished" if unfinished else "is not a run",
                "go on with uncus train --resume" if unfinished else "name a folder of uncus train",
            )
        card = files.read_json(path)
        if not isinstance(card, dict) or not isinstance(card.get("schema"), int):
            raise BadInput(path, "holds no model card", "restore the run's model folder")
        if card["schema"] > SCHEMA:
            raise BadInput(
                path, f"schema {card['schema']} is newer than {SCHEMA}", "update uncus to read it"
            )
        return card

    def seal(self) -> None:
        """Write the SHA-256 of every file of the model, after which it counts as whole."""
        names = sorted(p.name for p in self.model_folder.iterdir() if not p.name.startswith("."))
        lines = (
            f"{files.sha256(self.model_folder / name)}  {name}\n"
            for name in names
            if name != "SHA256SUMS"
        )
        files.write_text(self.model_folder / "SHA256SUMS", "".join(lines))

    def verify(self) -> dict[str, str]:
        """Name -> SHA-256 of the model's files; raises BadInput when one differs from its seal."""
        _ = self.card
        seal = self.model_folder / "SHA256SUMS"
        if not seal.exists():
            raise BadInput(seal, "not there", "finish the run with uncus train --resume")
        sums = {}
        for line in seal.read_text(encoding="utf-8").splitlines():
            expected, _, name = line.partition("  ")
            path = self.model_folder / Path(name).name
            if not path.exists():
                raise BadInput(path, "not there", "copy the whole model folder again")
            sums[name] = files.sha256(path)
            if sums[name] != expected:
                raise BadInput(
                    path, "its SHA-256 is not the one written when it was made", "copy it again"
                )
        weights = [member["file"] for member in self.card["members"]]
        for name in ("card.json", "reference.safetensors", *weights):
            if name not in sums:
                raise BadInput(seal, f"does not list {name}", "copy the model again")
        return sums

    # Reading and writing

    def read_object(self, name: str) -> dict[str, Any]:
        """A JSON file of the run that holds names and values."""
        value = files.read_json(self.path / name)
        if not isinstance(value, dict):
            kind = type(value).__name__
            raise BadInput(self.path / name, f"holds {kind}, not options", "restore the run")
        return value

    def read_table(self, name: str) -> pd.DataFrame:
        """A TSV of the run, every cell a string."""
        path = self.path / name
        if not path.exists():
            raise BadInput(path, "not there", "finish the run with uncus train --resume")
        return read_table(path)

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write a TSV of the run."""
        write_table(self.path / name, table)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run."""
        files.write_json(self.path / name, value)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the run."""
        files.write_text(self.path / name, text)

    def discard(self, paths: Iterable[Path]) -> None:
        """Remove files that the next step makes anew."""
        for path in paths:
            path.unlink(missing_ok=True)


def find_runs(folder: Path) -> list[Path]:
    """Finished runs in ``folder`` and a few folders below it, by name."""
    return find(folder, "model/card.json", but="compare.json")


def find_comparisons(folder: Path) -> list[Path]:
    """Comparisons of norms in ``folder`` and a few folders below it, by name."""
    return find(folder, "compare.json")


def find(folder: Path, marker: str, depth: int = 3, but: str = "") -> list[Path]:
    """Folders that hold the file ``marker``, up to ``depth`` folders below ``folder``.

    Nothing is looked for below a folder that holds the file ``but``: a comparison's many runs.
    """
    if (folder / marker).exists():
        return [folder]
    if depth == 0 or not folder.is_dir():
        return []
    below = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[:1] != ".")
    below = [path for path in below if not (but and (path / but).exists())]
    return [found for path in below for found in find(path, marker, depth - 1, but)]
