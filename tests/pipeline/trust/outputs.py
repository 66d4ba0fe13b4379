"""Out-of-fold predictions with a known law."""

import numpy as np
import pandas as pd
from scipy.special import softmax

from uncus.pipeline.trust.out_of_fold import OutOfFold


def made(scans: int, names: tuple[str, ...] = ("CN", "AD"), seed: int = 0, **law) -> OutOfFold:
    """Scans whose networks' log odds are ``temperature`` times the true ones, plus ``offset``.

    ``shares`` are the classes' shares, ``folds`` and ``seeds`` as of a run.
    """
    rng = np.random.default_rng(seed)
    shares = law.get("shares") or np.full(len(names), 1 / len(names))
    labels = rng.choice(len(names), scans, p=shares)
    # Gaussian classes of unit variance at 2 on their own axis: the true log odds are linear.
    images = rng.standard_normal((scans, len(names))) + 2 * np.eye(len(names))[labels]
    truth = 2 * images + np.log(shares)
    scores = law.get("temperature", 1.0) * truth + np.asarray(law.get("offset", 0.0))
    seeds = law.get("seeds", 1)
    rows = pd.DataFrame({"participant_id": [f"sub-{k:05d}" for k in range(scans)]})
    rows["session_id"] = ""
    rows = pd.concat([rows] * seeds, ignore_index=True)
    folds = np.tile(np.arange(scans) % law.get("folds", 5), seeds)
    outputs = softmax(scores, axis=1)
    return OutOfFold(names, rows, folds, np.tile(labels, seeds), np.tile(outputs, (seeds, 1)))
