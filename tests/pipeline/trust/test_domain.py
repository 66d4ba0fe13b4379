"""A domain: known distances, false alarms as rare as stated, and differences in words."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from uncus.pipeline.trust.domain import ALARMS, FEWEST, Domain, Gaussian, Scan, limits, scanner_of

HEAD = (180.0, 220.0, 170.0)
KNOWN = {"scans": 120, "slab": False, "synthetic": True, "scanner": {"field strength": ["1.5"]}}


def test_distances_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(3, 2, (200, 5)) @ random.normal(size=(5, 5))
    other = rows[:20] * 0.9
    standard = (rows - rows.mean(0)) / rows.std(0)
    known = LedoitWolf().fit(standard).mahalanobis((other - rows.mean(0)) / rows.std(0))
    assert np.abs(standard).max() < 4
    assert Gaussian.fit(rows).distance(other) == pytest.approx(np.sqrt(known), rel=1e-4)


def test_one_statistic_alone_does_not_decide() -> None:
    random = np.random.default_rng(0)
    rows = np.c_[random.normal(size=(100, 3)), np.full(100, 2.0)]  # the last one never varies
    fitted = Gaussian.fit(rows)
    once, thousand = np.zeros((1, 4)), np.zeros((1, 4))
    once[0, :1], thousand[0, :1] = 5, 5000
    assert fitted.distance(once) == fitted.distance(thousand)
    changed = np.array([[0, 0, 0, 9.0]])
    assert fitted.distance(changed) == fitted.distance(np.zeros((1, 4)))


def test_false_alarms_are_as_rare_as_stated() -> None:
    random, shares = np.random.default_rng(0), []
    for _ in range(200):
        distances = np.exp(random.normal(size=(FEWEST + 40, 3)) * [0.1, 1, 3])
        new = np.exp(random.normal(size=(500, 3)) * [0.1, 1, 3])
        shares.append((new > limits(distances)).any(1).mean())
        assert (distances > limits(distances)).any(1).mean() <= ALARMS
    assert np.mean(shares) == pytest.approx(ALARMS, rel=0.15)


@pytest.mark.parametrize(
    ("scan", "reason"),
    [
        (Scan(HEAD), ""),
        (Scan(HEAD, age=88, synthetic=True, scanner={"field strength": "1.5T"}), ""),
        (Scan(HEAD, age=30), "an age of 30, and the run's are 60 to 85 years"),
        (Scan((180.0, 10.0, 170.0)), "it is a slab (10 mm in its shortest direction)"),
        (Scan(HEAD, synthetic=False), "it is not a phantom of uncus, and the run was trained on"),
        (Scan(HEAD, scanner={"field strength": "3"}), "field strength 3, and the run's scans have"),
    ],
)
def test_what_is_known_of_a_scan_is_compared(scan: Scan, reason: str) -> None:
    verdict = Domain({**KNOWN, "limits": {}}, ages=(60, 85)).check(scan, [])
    if reason:
        assert verdict.inside is False
        assert len(verdict.reasons) == 1 and verdict.reasons[0].startswith(reason)
        assert reason in verdict.abstains
    else:
        assert verdict.inside is None and not verdict.abstains
        assert verdict.reasons == (f"the run was tested on fewer than {FEWEST} scans",)


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({"MagneticFieldStrength": 2.89362, "Manufacturer": "Siemens Healthineers"}, "3 siemens"),
        ({"magneticfieldstrength": "15000", "vendor": "GENERAL ELECTRIC"}, "1.5 ge"),
        ({"field_strength": "1.5T", "Manufacturer": "n/a"}, "1.5"),
        ({"age": "70"}, ""),
    ],
)
def test_scanners_are_written_in_one_way(fields: dict[str, object], known: str) -> None:
    assert " ".join(scanner_of(fields).values()) == known


def test_files_that_do_not_fit_are_refused() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 4))
    domain = Domain(KNOWN, [{"brain": Gaussian.fit(rows)}])
    tensors = domain.tensors()
    again = Domain.of(KNOWN, tensors, [{"brain": 4}])
    assert again.networks[0]["brain"].distance(rows) == pytest.approx(
        domain.networks[0]["brain"].distance(rows)
    )
    for sizes, other in (
        ([{"brain": 5}], {}),
        ([{"brain": 4}, {"brain": 4}], {}),
        ([{"brain": 4}], {"0.brain.mean": np.full(4, np.nan, np.float32)}),
    ):
        with pytest.raises(ValueError, match="brain"):
            Domain.of(KNOWN, tensors | other, sizes)


def test_a_run_whose_grid_is_a_part_of_any_placed_head_takes_slabs_and_heads() -> None:
    known = {name: value for name, value in KNOWN.items() if name != "slab"}
    for size in ((176.0, 10.0, 176.0), (180.0, 220.0, 180.0)):
        assert Domain(known).differences(Scan(size)) == []
    assert "head" not in str(Domain(known)) and "slab" not in str(Domain(known))


def test_a_domain_in_words() -> None:
    words = str(Domain(KNOWN, ages=(60, 85)))
    assert words == "120 scans, synthetic phantoms, whole heads, 60 to 85 years, field strength 1.5"
