"""What a run's judgement says: classes, none, or why the options are refused."""

import json

import numpy as np
import pytest

from tests.pipeline.trust.outputs import made
from uncus.data.design.targets import Target
from uncus.data.errors import BadInput
from uncus.pipeline.trust.reliability import Reliability, Setting

TWO = Target.parse(["dx"], ["CN=CN", "AD=AD"])
KNOWN = Reliability.fit(made(400, temperature=3.0))


def judged(p: float, **setting):
    return KNOWN.judge(np.array([[1 - p, p]] * 3), Setting(**setting))


def test_one_class_or_none_is_named() -> None:
    assert judged(0.9999).fits == ("AD",) and not judged(0.9999).abstains
    assert judged(0.0001).fits == ("CN",)
    doubt = judged(0.5, error_level=0.01)
    assert doubt.fits == ("CN", "AD") and doubt.abstains.startswith(
        "CN and AD both fit at an error"
    )
    assert "no class fits at an error level of 50%" in judged(0.5, error_level=0.5).abstains


def test_the_set_does_not_depend_on_the_prevalence() -> None:
    for p in (0.1, 0.4, 0.6, 0.9):
        here, there = judged(p), judged(p, prevalence={"AD": 0.01})
        assert here.fits == there.fits and here.members[0, 1] > there.members[0, 1]
        assert there.prevalence == pytest.approx({"CN": 0.99, "AD": 0.01})
        assert here.uncalibrated == there.uncalibrated == pytest.approx({"CN": 1 - p, "AD": p})


def test_a_class_is_not_named_where_another_is_more_probable() -> None:
    """The set is of errors within each class: where AD is rare, most such scans are CN's."""
    assert judged(0.99).fits == ("AD",) and not judged(0.99).abstains
    rare = judged(0.99, prevalence={"AD": 0.01})
    assert rare.fits == ("AD",) and rare.members.mean(0)[0] > 0.5
    assert rare.abstains.startswith("only AD fits, but at the given prevalence CN is more probable")
    assert not judged(0.99, prevalence={"AD": 0.3}).abstains


def test_classes_that_are_left_out_share_the_rest() -> None:
    three = Reliability.fit(made(3000, ("CN", "MCI", "AD"), shares=[0.6, 0.3, 0.1]))
    shares = three.shares(Setting({"AD": 0.4}))
    assert shares is not None and shares.sum() == pytest.approx(1)
    assert shares[2] == pytest.approx(0.4)
    assert shares[0] / shares[1] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(
    "options",
    [
        "AD",
        "AD=",
        "=0.1",
        "AD=x",
        "AD=nan",
        "AD=0",
        "AD=1",
        "AD=-0.1",
        "AD=inf",
        "FTD=0.1",
        "AD=0.1 AD=0.2",
        "AD=0.5 CN=0.6",
        "AD=0.2 CN=0.2",
    ],
)
def test_a_bad_prevalence_is_refused_in_one_line(options: str) -> None:
    with pytest.raises(BadInput) as refused:
        KNOWN.shares(Setting.parse(options.split()))
    assert str(refused.value).startswith("--prevalence") and "\n" not in str(refused.value)


@pytest.mark.parametrize("level", [0.0, 0.009, 0.51, 1.0, float("nan"), -1.0])
def test_a_bad_error_level_is_refused(level: float) -> None:
    with pytest.raises(BadInput, match=r"must be from 0\.01 to 0\.5"):
        Setting(error_level=level)


def test_few_subjects_and_old_runs_say_that_they_are_not_calibrated() -> None:
    few = Reliability.fit(made(12))
    old = Reliability.from_card({}, TWO)
    for one, reason in ((few, "at least 10 are needed"), (old, "an earlier version")):
        judgement = one.judge(np.array([[0.3, 0.7]]), Setting())
        assert judgement.fits is None and not judgement.abstains and reason in judgement.reason
        assert judgement.as_dict()["calibrated"] is False
        assert (judgement.members == judgement.outputs).all()
        with pytest.raises(BadInput, match="the run is not calibrated"):
            one.shares(Setting({"AD": 0.1}))


def test_the_card_gives_the_same_judgement_back() -> None:
    for known in (KNOWN, Reliability.fit(made(12))):
        again = Reliability.from_card(json.loads(json.dumps(known.as_card())), TWO)
        outputs = np.array([[0.3, 0.7], [0.6, 0.4]])
        assert (
            again.judge(outputs, Setting()).as_dict() == known.judge(outputs, Setting()).as_dict()
        )
