"""Test-retest: the agreement of predictions for two scans of a subject."""

from typing import Any

import numpy as np
import pandas as pd

from uncus.data.text import natural_text
from uncus.pipeline.evaluation.bootstrap import interval, plain
from uncus.pipeline.evaluation.metrics import Array, ratio

MIN_PAIRS = 3


def icc(pairs: Array) -> Array:
    """ICC(2,1): two-way random effects, absolute agreement, a single scan (Shrout & Fleiss 1979).

    ``(MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n)``, with the mean squares of subjects
    (MSR), of sessions (MSC) and of the residual (MSE).

    Parameters
    ----------
    pairs: float [..., n, k], n subjects by k sessions.

    Returns
    -------
    float [...]; NaN without any variance.
    """
    n, k = pairs.shape[-2:]
    grand = pairs.mean(axis=(-2, -1), keepdims=True)
    rows = pairs.mean(axis=-1, keepdims=True)
    columns = pairs.mean(axis=-2, keepdims=True)
    of_rows = k * ((rows - grand) ** 2).sum(axis=(-2, -1)) / (n - 1)
    of_columns = n * ((columns - grand) ** 2).sum(axis=(-2, -1)) / (k - 1)
    rest = ((pairs - rows - columns + grand) ** 2).sum(axis=(-2, -1)) / ((n - 1) * (k - 1))
    return ratio(of_rows - rest, of_rows + (k - 1) * rest + k * (of_columns - rest) / n)


def session_pairs(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The first two sessions of each subject with several in one fold's test part.

    Returns
    -------
    one row per subject: participant_id, then ``COLUMN_1`` and ``COLUMN_2`` for each column.
    """
    rows = []
    frame = frame.dropna(subset=columns)
    frame = frame[frame.duplicated(["participant_id", "fold"], keep=False)]
    for (name, _), scans in frame.groupby(["participant_id", "fold"], sort=True):
        order = sorted(range(len(scans)), key=lambda i: natural_text(scans["session_id"].iloc[i]))
        first, second = (scans.iloc[i] for i in order[:2])
        row = {"participant_id": name}
        for column in columns:
            row |= {f"{column}_1": first[column], f"{column}_2": second[column]}
        rows.append(row)
    return pd.DataFrame(rows).drop_duplicates("participant_id") if rows else pd.DataFrame()


def agreement(pairs: Array, draws: int, seed: int) -> dict[str, Any]:
    """ICC(2,1), mean absolute difference, and Bland-Altman bias and limits of agreement.

    Parameters
    ----------
    pairs: float [n, 2], the two outputs for each of n subjects.
    draws: resamples of subjects for the 95% intervals.
    """
    n = len(pairs)
    index = np.random.default_rng(seed).integers(0, n, size=(draws, n))
    resampled = np.concatenate([pairs[None], pairs[index]])  # [1 + draws, n, 2]
    difference = resampled[..., 1] - resampled[..., 0]
    bias, spread = float(difference[0].mean()), float(difference[0].std(ddof=1))
    return {
        "n": n,
        "icc": interval(icc(resampled)),
        "mean_absolute_difference": interval(np.abs(difference).mean(axis=-1)),
        "bias": plain(bias),
        "limits": [plain(bias - 1.96 * spread), plain(bias + 1.96 * spread)],
    }
