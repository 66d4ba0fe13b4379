"""Streams on a device that has none, and what is recorded where."""

import torch

from uncus.pipeline.training.steps.graphs import SideStream, can_record, capturable, uncached


def test_a_cpu_works_in_order() -> None:
    side = SideStream(torch.device("cpu"))
    values = torch.zeros(3)
    for at_once in (False, True):
        with side.work(at_once):
            values += 1
    side.hand_over([values, "no tensor"])
    side.abandon(None)
    assert values.tolist() == [2, 2, 2]
    assert can_record(torch.device("cuda", 1)) and not can_record(torch.device("cpu"))


def test_an_optimizer_is_capturable_for_a_while() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter], lr=0.5, fused=True)
    rate = torch.tensor(0.25)
    try:
        with capturable(optimizer, [rate]):
            (group,) = optimizer.param_groups
            assert group["lr"] is rate and group["capturable"]
            raise RuntimeError
    except RuntimeError:
        pass
    assert group["lr"] == 0.5 and not group["capturable"]


def test_autocast_without_its_cache() -> None:
    cpu = torch.device("cpu")
    with uncached(cpu):
        assert not torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with uncached(cpu):
            assert torch.is_autocast_enabled("cpu") and not torch.is_autocast_cache_enabled()
            assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert torch.is_autocast_cache_enabled()
