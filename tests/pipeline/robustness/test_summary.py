"""From which level a metric is worse."""

from typing import Any

from uncus.pipeline.robustness.summary import FEWEST, first_losses, headline, rows, verdict


def estimate(value: float | None) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value}


def result(name: str, plain: float | None, **changes: list[float]) -> dict[str, Any]:
    """A measurement of a metric, with its changes at the levels 1, 2 and 3 of disturbances."""
    lower = name == "MAE"
    return {
        "name": name,
        "lower_is_better": lower,
        "regression": lower,
        "plain": estimate(plain),
        "disturbances": {
            title: {
                "title": title,
                "unit": "mm",
                "levels": [
                    {
                        "level": level,
                        **estimate(None if plain is None else plain + change),
                        "change": estimate(None if plain is None else change),
                        "calls": estimate(0.25),
                    }
                    for level, change in enumerate(some, start=1)
                ],
            }
            for title, some in changes.items()
        },
    }


def test_an_auc_is_lost_where_it_falls_by_more_than_the_limit() -> None:
    found = result("AUC", 0.9, blur=[-0.01, -0.05, -0.051], shift=[0.2, 0.0, -0.04])
    assert [verdict(found, name)[0] for name in ("blur", "shift")] == ["lost", "kept"]
    assert verdict(found, "blur")[1]["level"] == 3
    assert headline(found) == (
        "The AUC falls by more than 0.05 from: blur 3 mm. It does not up to: shift 3 mm."
    )
    assert first_losses(found)[1] == [
        "none up to shift 3 mm",
        "−0.040 (−0.040 to −0.040)",
        "25% (25% to 25%)",
    ]
    assert len(rows(found)) == 7


def test_an_error_is_lost_where_it_rises_by_more_than_a_tenth() -> None:
    found = result("MAE", 5.0, blur=[0.4, 0.6, 2.0], shift=[-2.0, -1.0, 0.5])
    assert headline(found) == (
        "The MAE rises by more than 10% of itself from: blur 2 mm. It does not up to: shift 3 mm."
    )
    assert first_losses(found)[0][2] == "0.250", "in its unit"


def test_a_metric_that_cannot_be_measured_says_so() -> None:
    assert "cannot be measured" in headline(result("AUC", None, blur=[0, 0, 0]))
    assert "at none of the levels up to: blur 3 mm." in headline(result("AUC", 0.9, blur=[0, 0, 0]))


def test_a_loss_is_one_at_all_further_levels_and_beyond_its_interval() -> None:
    found = result("AUC", 0.9, noise=[-0.2, 0.0, 0.0], blur=[0.0, -0.2, -0.3], shift=[0, 0, 0])
    assert headline(found) == (
        "The AUC falls by more than 0.05 from: blur 2 mm. It does not up to: shift 3 mm. "
        "Inconclusive: noise."
    )
    assert [row[0] for row in first_losses(found)] == [
        "inconclusive up to noise 3 mm",
        "blur 2 mm",
        "none up to shift 3 mm",
    ]
    unsure = "It is inconclusive whether the AUC falls by more than 0.05."
    assert headline(found | {"fewest": FEWEST - 1}) == unsure
    for one in found["disturbances"].values():
        for row in one["levels"]:
            row["change"] |= {"low": -0.5, "high": 0.0}
    assert headline(found) == unsure
