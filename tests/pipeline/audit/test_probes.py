"""What too few tested subjects let an audit say: nothing."""

import numpy as np

from uncus.pipeline.audit.probes import Scored, compared


def scored(labels: list[int]) -> Scored:
    """Three classes, scored by chance."""
    scores = np.random.default_rng(0).dirichlet(np.ones(3), len(labels))
    return Scored(np.array(labels), scores, np.arange(len(labels)))


def test_a_class_is_measured_against_the_others_from_two_subjects_on() -> None:
    assert scored([0, 0, 1, 2, 2, 2]).separable() == [0, 2]
    assert scored([0, 0, 0, 1]).separable() == scored([0, 0]).separable() == []


def test_a_network_that_tested_too_few_is_not_compared() -> None:
    probe = scored([0, 0, 0, 1, 1, 1])
    assert compared(probe, scored([0, 0, 0, 1, 1]))[0].startswith("; network minus this")
    assert compared(probe, scored([0, 0, 0, 1])) == compared(probe, None) == ("", {})
