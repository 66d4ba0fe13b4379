"""Which scans are disturbed, and which networks judge each: none that trained on its subject."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from uncus.data.bids_derivatives import Entry
from uncus.data.design.covariates import to_row
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.tables import clean
from uncus.pipeline.evaluation.predictions import SCAN, Outputs, Predicted, Study, model_outputs
from uncus.pipeline.prediction.prepared_scans import place
from uncus.pipeline.prediction.trained_networks import read_grid, read_pipeline
from uncus.pipeline.robustness.judges import Scan
from uncus.pipeline.run_files.contents import RESTORE
from uncus.pipeline.runs import Run

Volume = Callable[[int], NDArray[Any]]
"""Position in the cohort -> [X, Y, Z] on the run's grid."""


@dataclass(frozen=True)
class Trial:
    """The scans of a study, and who judges them.

    Attributes
    ----------
    judged: one row for each scan and network, as in predictions.tsv without the outputs:
        participant_id, session_id, fold, seed, part; and ``member``, the network's position in the
        model card.
    """

    run: Run
    cohort: PreparedCohort
    study: Study
    judged: pd.DataFrame
    volume: Volume

    @classmethod
    def own(cls, run: Run, cohort: PreparedCohort, found: Predicted) -> "Trial":
        """The run's labelled test scans, each judged by the networks that its folds tested it with.

        Raises
        ------
        BadInput: a row of predictions.tsv is of a network that trained on its subject, or of none.
        """
        model_outputs(found.study, found.predictions, run.predictions_path)
        table = found.predictions[found.predictions["part"] == "test"]
        labels = found.study.labels[found.study.positions(table)]
        table = table[Outputs(table, labels, {}).labelled]
        places = {(int(m["fold"]), int(m["seed"])): k for k, m in enumerate(run.card["members"])}
        keys = list(zip(table["fold"], table["seed"], strict=True))
        if stray := sorted({*keys} - {*places}):
            cause = f"fold {stray[0][0]}, seed {stray[0][1]} is no network of the model card"
            raise BadInput(run.predictions_path, cause, RESTORE)
        member = [places[key] for key in keys]
        judged = table[[*SCAN, "fold", "seed", "part"]].assign(member=member)

        def volume(row: int) -> NDArray[Any]:
            return np.asarray(cohort.volumes[row])

        return cls(run, cohort, found.study, judged.reset_index(drop=True), volume)

    @classmethod
    def other(cls, run: Run, cohort: PreparedCohort, found: Predicted) -> "Trial":
        """The scans of another cohort, judged by all networks; see ``predict_external``."""
        pipeline = read_pipeline(run)
        table, members = found.predictions[[*SCAN, "fold", "part"]], range(len(run.card["members"]))
        judged = table.merge(pd.DataFrame({"seed": members, "member": members}), how="cross")

        def volume(row: int) -> NDArray[Any]:
            entry = Entry.from_dict(cohort.manifest["scans"][row])
            return place(cohort, row, entry, pipeline).array.astype(np.float16)

        return cls(run, cohort, found.study, judged, volume)

    def some(self, subjects: int, seed: int) -> "Trial":
        """At most as many subjects, drawn at random, of each class one if possible; 0 for all."""
        names = np.unique(self.judged["participant_id"].astype(str))
        if not 0 < subjects < len(names):
            return self
        drawn = np.random.default_rng(seed).permutation(names)
        if self.study.target.is_classification:
            labels = self.study.labels[self.study.positions(self.judged)]
            known = dict(zip(self.judged["participant_id"].astype(str), labels, strict=True))
            firsts = np.unique([known[name] for name in drawn], return_index=True)[1]
            drawn = np.concatenate([drawn[firsts], np.delete(drawn, firsts)])
        kept = self.judged["participant_id"].isin(drawn[:subjects])
        return replace(self, judged=self.judged[kept].reset_index(drop=True))

    def scan(self, names: tuple[str, ...], device: torch.device) -> tuple[str, Scan]:
        """The name of a file about the scan (participant_id, session_id), and the scan.

        Raises
        ------
        BadInput: a covariate is not a number.
        """
        keys = pd.MultiIndex.from_frame(self.cohort.table[SCAN])
        row = int(keys.get_indexer(pd.MultiIndex.from_tuples([names]))[0])
        name = str(self.cohort.manifest["scans"][row]["name"])
        wanted = tuple(self.run.card.get("covariates", {}))
        cells = {n: clean(self.cohort.table[n].iloc[row]) for n in wanted if n in self.cohort.table}
        place = self.study.positions(pd.DataFrame([names], columns=SCAN))[0]
        voxels = self.volume(row).astype(np.float32)
        scan = Scan(
            torch.from_numpy(voxels)[None, None].to(device),
            torch.from_numpy(to_row(cells, wanted))[None].to(device),
            self.study.labels[place],
            int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]),
            read_grid(self.run).spacing,
        )
        return name, scan
