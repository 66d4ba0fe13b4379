"""Random tables of subjects, to split into folds."""

import numpy as np
import pandas as pd

from uncus.data.design.splits import Splits


def random_subjects(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """A study of n subjects, a third of them with two sessions; and the class of every row."""
    rng = np.random.default_rng(seed)
    ids = np.repeat([f"sub-{k:03}" for k in range(n)], rng.choice([1, 2], n, p=[2 / 3, 1 / 3]))
    subject = pd.factorize(ids)[0]
    table = pd.DataFrame(
        {
            "participant_id": ids,
            "session_id": [f"ses-{k}" for k in pd.Series(ids).groupby(ids).cumcount()],
            "sex": rng.choice(["F", "M", ""], n)[subject],
            "age": [f"{a:.1f}" for a in rng.normal(70, 10, n)[subject]],
            "site": rng.choice(["A", "B"], n)[subject],
        }
    )
    return table, (rng.random(n) < 0.3).astype(int)[subject]


def counts(splits: Splits, part: str) -> list[int]:
    return [len(splits.subjects(fold, part)) for fold in range(splits.folds)]
