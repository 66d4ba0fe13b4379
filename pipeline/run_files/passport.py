"""The verdicts of a run's saliency passport, as predictions and pages need them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from uncus.data.json_schema import TEXT, array, fault, mapping, record

FAILED = "failed"
PASSPORT = record(
    weights=mapping(TEXT),
    methods=mapping(
        record(
            verdict={"enum": ["passed", FAILED, "not judged"]},
            reasons=array(TEXT, 100, least=0),
        )
    ),
)
"""What of passport.json is used; the rest is for its page."""
UNCHECKED = "The saliency methods of this run were not checked (uncus explain --check RUN)."


@dataclass(frozen=True)
class Verdicts:
    """Which methods a run's check passed or failed; empty if it was not checked.

    Attributes
    ----------
    methods: method -> "passed", "failed" or "not judged".
    reasons: method -> why it failed.
    """

    methods: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, passport: Any, weights: Mapping[str, str]) -> "Verdicts":
        """Those of ``passport``; none where it is about other weights (name -> SHA-256).

        Raises
        ------
        ValueError: not a passport.
        """
        if wrong := fault(passport, PASSPORT):
            raise ValueError(wrong)
        if passport["weights"] != dict(weights):
            return cls()
        methods = passport["methods"]
        return cls(
            {name: one["verdict"] for name, one in methods.items()},
            {name: tuple(one["reasons"]) for name, one in methods.items()},
        )

    def failed(self, method: str) -> bool:
        """Whether the method failed."""
        return self.methods.get(method) == FAILED

    def warning(self, method: str) -> str:
        """What a map by ``method`` is marked with; "" where it passed."""
        if self.failed(method):
            why = "; ".join(self.reasons[method])
            return f"This method did not pass the check of this run: {why}."
        return ""

    def state(self, method: str) -> str:
        """The verdict on ``method`` in a sentence."""
        if not self.methods:
            return UNCHECKED
        match self.methods.get(method):
            case "passed":
                return "This method passed the check of this run."
            case "failed":
                return self.warning(method)
            case "not judged":
                return "The check of this run had too few scans to judge this method."
        return "The check of this run did not include this method."

    def line(self) -> str:
        """All verdicts in one line."""
        if not self.methods:
            return UNCHECKED
        named: dict[str, list[str]] = {}
        for method, verdict in self.methods.items():
            named.setdefault(verdict, []).append(method.replace("_", " "))
        return "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in named.items()) + "."
