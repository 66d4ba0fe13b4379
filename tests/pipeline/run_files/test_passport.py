"""What a stored passport says of a method, and of one that is not about these weights."""

from typing import Any

import pytest

from uncus.pipeline.run_files.passport import UNCHECKED, Verdicts

WEIGHTS = {"fold-0.safetensors": "a" * 64}
PASSPORT: dict[str, Any] = {
    "weights": WEIGHTS,
    "methods": {
        "gradient": {"verdict": "passed", "reasons": []},
        "grad_cam": {"verdict": "failed", "reasons": ["one", "two"]},
        "occlusion": {"verdict": "not judged", "reasons": []},
    },
}


def test_the_verdict_on_each_method_in_words() -> None:
    verdicts = Verdicts.of(PASSPORT, WEIGHTS)
    assert verdicts.warning("grad_cam") == (
        "This method did not pass the check of this run: one; two."
    )
    assert [verdicts.warning(name) for name in ("gradient", "occlusion", "other")] == ["", "", ""]
    assert "passed the check" in verdicts.state("gradient")
    assert "too few scans" in verdicts.state("occlusion")
    assert "not include" in verdicts.state("other")
    assert verdicts.line() == "passed: gradient; failed: grad cam; not judged: occlusion."


def test_a_passport_of_other_weights_counts_as_none() -> None:
    verdicts = Verdicts.of(PASSPORT, {"fold-0.safetensors": "b" * 64})
    assert not verdicts.failed("grad_cam") and not verdicts.warning("grad_cam")
    assert verdicts.state("grad_cam") == verdicts.line() == UNCHECKED


@pytest.mark.parametrize(
    "damage",
    [
        [],
        {},
        {**PASSPORT, "methods": []},
        {**PASSPORT, "methods": {"gradient": {"verdict": "fine", "reasons": []}}},
        {**PASSPORT, "methods": {"gradient": {"verdict": "failed", "reasons": ["\x1b[2J"]}}},
    ],
)
def test_anything_else_is_refused(damage: Any) -> None:
    with pytest.raises(ValueError):
        Verdicts.of(damage, WEIGHTS)
