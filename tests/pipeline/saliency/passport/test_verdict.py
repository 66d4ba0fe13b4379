"""Verdicts follow from the references alone."""

import numpy as np
import pytest
from scipy.stats import wilcoxon

from uncus.pipeline.saliency.passport.verdict import judge, paired

TEXT = "{value:.2f} and {reference:.2f}"


def scan(trained: float, untrained: float, gain: float, structure: bool = True) -> dict:
    if not structure:
        return {"methods": {"m": {"structure": False}}, "agreement": {}, "random": []}
    same = {"spearman_absolute": 0.0, "ssim": 0.0}
    curve = {"deletion": [1, 0], "insertion": [0, 1]}
    return {
        "methods": {
            "m": {
                "structure": True,
                "trained": {"spearman": trained, **same},
                "cascade": [{"share": 1.0, "spearman": untrained, **same}],
                "removal": {**curve, "gain": gain},
            }
        },
        "agreement": {},
        "random": [{**curve, "gain": 0.0}],
    }


def test_p_is_scipys_and_few_scans_give_no_verdict() -> None:
    pairs = [(0.5, 0.1), (0.4, 0.2), (0.3, 0.35), (0.6, 0.1), (0.5, 0.0), (0.7, 0.4)]
    found = paired(pairs, TEXT)
    assert found["p"] == wilcoxon(*np.array(pairs).T, alternative="greater").pvalue
    assert found["passed"] is True
    assert found["failed"].startswith("0.50 and 0.19 (p = 0.0")
    assert paired(pairs[:4], TEXT)["passed"] is None
    assert paired([(0.5, 0.5)] * 9, TEXT)["passed"] is False


def test_a_method_passes_every_test_or_fails_and_says_why() -> None:
    good = judge([scan(0.5 + 0.01 * k, 0.1, 1.0 + k) for k in range(6)])["methods"]["m"]
    assert good["verdict"] == "passed" and not good["reasons"]
    edges = judge([scan(0.9, 0.9, 1.0 + k) for k in range(6)])["methods"]["m"]
    assert edges["verdict"] == "failed" and len(edges["reasons"]) == 1
    assert "rank correlation 0.90, than like those of an untrained one, 0.90" in edges["reasons"][0]
    blind = judge([scan(0.5, 0.1, (-1.0) ** k) for k in range(6)])["methods"]["m"]
    assert blind["verdict"] == "failed" and "random order" in blind["reasons"][0]
    few = judge([scan(0.5, 0.1, 1.0)] * 4)["methods"]["m"]
    assert few["verdict"] == "not judged"


@pytest.mark.parametrize("flat", [4, 6])
def test_maps_without_structure_fail(flat: int) -> None:
    scans = [scan(0.5, 0.1, 1.0, structure=k >= flat) for k in range(6)]
    found = judge(scans)["methods"]["m"]
    assert found["verdict"] == "failed" and found["without_structure"] == flat
    assert "the same everywhere" in found["reasons"][0]
