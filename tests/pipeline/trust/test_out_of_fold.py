"""Out-of-fold predictions: read from a table, and divided with no subject on both sides."""

import numpy as np
import pandas as pd

from tests.pipeline.trust.outputs import made
from uncus.data.design.targets import Target
from uncus.pipeline.trust.out_of_fold import OutOfFold


def test_test_scans_with_a_label_are_read() -> None:
    table = pd.DataFrame(
        {
            "participant_id": ["a", "b", "c", "d"],
            "session_id": [""] * 4,
            "fold": [0, 0, 1, 1],
            "part": ["test", "test", "holdout", "test"],
            "true": ["AD", "", "AD", "CN"],
            "p_CN": [0.1, 0.2, 0.3, 0.4],
            "p_AD": [0.9, 0.8, 0.7, 0.6],
        }
    )
    known = OutOfFold.of(table, Target.parse(["dx"], ["CN=CN", "AD=AD"]))
    assert list(known.scans["participant_id"]) == ["a", "d"]
    assert known.labels.tolist() == [1, 0] and known.outputs[:, 1].tolist() == [0.9, 0.6]


def test_no_subject_is_fitted_on_and_measured() -> None:
    for names in (("CN", "AD"), ("CN", "MCI", "AD")):
        known = made(60, names, seeds=2)
        subjects = known.scans["participant_id"].to_numpy()
        measured: list[int] = []
        for fitted_on, measured_on in known.nested():
            assert not set(subjects[fitted_on]) & set(subjects[measured_on])
            assert len(fitted_on) + len(measured_on) == len(subjects)
            measured += measured_on.tolist()
        assert sorted(measured) == list(range(120))


def test_one_subject_of_a_class_is_not_divided() -> None:
    known = made(30)
    few = known.take(np.r_[np.flatnonzero(known.labels == 0), np.flatnonzero(known.labels)[0]])
    assert not list(few.nested())


def test_the_mean_over_seeds_is_per_scan() -> None:
    known = made(10, seeds=2)
    outputs = np.concatenate([np.full((10, 2), 0.2), np.full((10, 2), 0.4)])
    one = known.mean(outputs)
    assert len(one.scans) == 10 and np.allclose(one.outputs, 0.3)
    assert (one.labels == known.labels[:10]).all()
