"""Counter-based noise: a known hash, normal numbers, independent seeds."""

import numpy as np
import pytest
import torch

from uncus.data.noise import normal, scramble

CPU = torch.device("cpu")


def test_the_hash_is_lowbias32() -> None:
    words = np.random.default_rng(0).integers(0, 2**32, 1000, dtype=np.uint64)
    x = words.copy()
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x ^= x >> np.uint64(shift)
        x = x * np.uint64(factor) % np.uint64(2**32)
    given = torch.from_numpy(words.astype(np.uint32).view(np.int32))
    kept = given.clone()
    assert np.array_equal(scramble(given).numpy().view(np.uint32), x.astype(np.uint32))
    assert torch.equal(given, kept)


def test_numbers_are_normal() -> None:
    x = normal([1, 2, 3, 4], 250_001, CPU).flatten().double()
    assert x.numel() == 1_000_004 and x.isfinite().all()
    error = 1 / x.numel() ** 0.5
    assert abs(float(x.mean())) < 4 * error
    assert float(x.var()) == pytest.approx(1, abs=6 * error)
    assert float((x**3).mean()) == pytest.approx(0, abs=16 * error)
    assert float((x**4).mean()) == pytest.approx(3, abs=40 * error)
    inside = torch.tensor([float((x.abs() < limit).double().mean()) for limit in (0.5, 1, 2, 3)])
    wanted = torch.erf(torch.tensor([0.5, 1, 2, 3]) / 2**0.5)
    torch.testing.assert_close(inside, wanted, atol=4 * error, rtol=0)


def test_neighboring_numbers_and_seeds_are_uncorrelated() -> None:
    x = normal([0, 1, 2**31 - 1], 100_000, CPU)
    shifted = [x.roll(step, 1) for step in (1, 112, 50_000)]
    together = torch.corrcoef(torch.cat([x, *shifted]))
    assert float((together - torch.eye(len(together))).abs().max()) < 5 / 100_000**0.5
    assert len(x.flatten().unique()) > 0.95 * x.numel()


def test_numbers_depend_on_their_seed_alone() -> None:
    x = normal([7, 5, 7], 11, CPU)
    assert x.shape == (3, 11)
    assert torch.equal(x[0], x[2])
    assert torch.equal(x[1:2], normal([5], 11, CPU))
