"""Every method of adaptation, on a planted change of the scanner."""

from pathlib import Path

import numpy as np
import pytest
import torch

from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.base import Classifier
from uncus.models.weights import trunk_hash
from uncus.pipeline.adaptation.choice import cross_validated
from uncus.pipeline.adaptation.norms import own, with_statistics
from uncus.pipeline.adaptation.plan import Plan, plan
from uncus.pipeline.adaptation.registry import ADAPTATIONS, Adaptation
from uncus.pipeline.adaptation.site import Site, logits
from uncus.pipeline.evaluation.external import ExternalScans
from uncus.pipeline.runs import Run

HEADS = ("coral", "calibration", "head", "prototypes")


def planned(run: Path, site: Path, labels: int) -> Plan:
    return plan(Run(run), ExternalScans(PreparedCohort.open(site)), labels, 0, "cpu", None, False)


def first_of(todo: Plan) -> tuple[Classifier, Site]:
    """The first network, and the site that it meets."""
    return todo.network(todo.members[0]), todo.site(todo.members[0])


@pytest.mark.parametrize("name", ADAPTATIONS)
def test_a_method_runs_and_is_reproducible(name: str, batch_run: Path, site: Path) -> None:
    todo = planned(batch_run, site, 4)
    first = todo.members[0]
    before = todo.network(first).state_dict()
    networks = [todo.network(first) for _ in range(2)]
    for network in networks:
        ADAPTATIONS[name].apply(network, todo.site(first))
    states = [network.state_dict() for network in networks]
    assert all(torch.equal(states[0][key], states[1][key]) for key in before)
    assert all(bool(torch.isfinite(value).all()) for value in states[0].values())
    same = all(torch.equal(states[0][key], before[key]) for key in before)
    assert same == (name == "none")
    assert all(parameter.requires_grad for parameter in networks[0].parameters())
    assert not networks[0].training


@pytest.mark.parametrize("name", HEADS)
def test_the_trunk_keeps_every_bit(name: str, run: Path, site: Path) -> None:
    todo = planned(run, site, 4)
    network = todo.network(todo.members[0])
    before = trunk_hash(network)
    ADAPTATIONS[name].apply(network, todo.site(todo.members[0]))
    assert trunk_hash(network) == before


@pytest.mark.parametrize("name", ["entropy", "head+norms"])
def test_convolutions_keep_every_bit(name: str, batch_run: Path, site: Path) -> None:
    todo = planned(batch_run, site, 4)
    network = todo.network(todo.members[0])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    ADAPTATIONS[name].apply(network, todo.site(todo.members[0]))
    convolutions = [
        f"{key}.weight"
        for key, layer in network.named_modules()
        if isinstance(layer, torch.nn.Conv3d)
    ]
    after = network.state_dict()
    assert convolutions and all(torch.equal(after[key], before[key]) for key in convolutions)


def test_statistics_are_those_of_the_new_site(batch_run: Path, site: Path) -> None:
    network, met = first_of(planned(batch_run, site, 0))
    before = [value.clone() for layer in with_statistics(network) for _, value in own(layer)]
    weights = {name: value.clone() for name, value in network.named_parameters()}
    seen: list[torch.Tensor] = []
    layer = with_statistics(network)[0]
    layer.register_forward_pre_hook(lambda _, x: seen.append(x[0].detach()))
    ADAPTATIONS["statistics"].apply(network, met)
    after = [value for layer in with_statistics(network) for _, value in own(layer)]
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    batches = seen[len(seen) // 2 :]
    mean = torch.stack([one.mean((0, 2, 3, 4)) for one in batches]).mean(0)
    n = len(met.scans)
    assert torch.allclose(after[0], (n * mean + 16 * before[0]) / (n + 16), atol=1e-5)
    assert all(torch.equal(value, weights[name]) for name, value in network.named_parameters())


def test_cross_validation_leaves_out_the_scans_that_it_judges_by(
    run: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = planned(run, site, 4)
    network, met = first_of(todo)
    seen: list[set[int]] = []

    def note(_: Classifier, one: Site) -> None:
        seen.append(set(one.scans.rows))

    monkeypatch.setitem(ADAPTATIONS, "none", Adaptation(note, "", candidate=True))
    cross_validated("none", lambda: network, met, todo.subjects(todo.members[0]))
    every, shown = set(met.scans.rows), set(met.labelled().rows)
    left_out = [every - some for some in seen]
    assert sorted(row for some in left_out for row in some) == sorted(shown), "each once"


def test_the_refitted_head_answers_as_labelled(run: Path, site: Path) -> None:
    network, met = first_of(planned(run, site, 8))
    before = logits(network, met.scans, met.flip)
    ADAPTATIONS["head"].apply(network, met)
    shown, labels = met.shown, met.labelled().labels

    def loss(output: np.ndarray) -> float:
        tensors = torch.from_numpy(output[shown]), torch.from_numpy(labels)
        return float(torch.nn.functional.cross_entropy(*tensors))

    assert loss(logits(network, met.scans, met.flip)) < loss(before)


def test_coral_gives_features_the_sources_mean(run: Path, site: Path) -> None:
    network, met = first_of(planned(run, site, 0))
    assert met.source is not None
    home = logits(network, met.source, met.flip).mean(0)
    ADAPTATIONS["coral"].apply(network, met)
    assert np.allclose(logits(network, met.scans, met.flip).mean(0), home, atol=1e-4)


def test_calibration_finds_the_shares(run: Path, site: Path) -> None:
    network, met = first_of(planned(run, site, 0))
    before = logits(network, met.scans, met.flip)
    ADAPTATIONS["calibration"].apply(network, met)
    after = logits(network, met.scans, met.flip)
    shift = (after - before)[:, 1] - (after - before)[:, 0]
    assert np.allclose(shift, shift[0], atol=1e-5), "the order of the scans stays"


def test_calibration_never_finds_a_class_to_be_absent(run: Path, site: Path) -> None:
    network, met = first_of(planned(run, site, 0))
    with torch.no_grad():
        network.head.bias[1] += 50
    before = logits(network, met.scans, met.flip)
    ADAPTATIONS["calibration"].apply(network, met)
    shift = (logits(network, met.scans, met.flip) - before)[:, 0]
    assert np.isclose(shift[0], np.log(16 / (len(met.scans) + 16)), atol=0.01)
