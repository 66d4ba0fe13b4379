# ruff: noqa: N803 - C, S and the constants in capitals are the names that kernels use
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""Triton kernels of GroupNorm + residual + activation; use them through ``uncus.models.fused``.

PyTorch uses one block for each of the N*G groups, so one scan in 8 groups occupies 8 of an H100's
132 multiprocessors. Here every (sample, channel) is split into ``splits`` chunks, one program each:

    moments          mean and squared deviations of every chunk             reads x
    apply            merges a group's chunks, normalizes, adds, activates   reads x, writes y
    backward_reduce  sums of dz and dz * xhat of every chunk                reads x, dy
    backward_apply   merges them: dx, dgamma, dbeta                         reads x, dy, writes dx

with z = gamma * xhat + beta (+ residual), y = activation(z). Partial results are written out and
merged in a fixed order, without atomics, so the same input gives the same bits on the same kind of
device. The second pass runs backward through each chunk, whose end is still in the cache.

A tensor is read as [N, C, S] (``LAST`` false) or [N, S, C] (channels last) without a copy. In the
first layout a program processes one channel and merges its group's few chunks itself; in the second
its tile spans many groups, and a small kernel (``merge_*``) merges once for all.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

NONE, RELU, SILU = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
ACTIVATIONS = {"none": 0, "relu": 1, "silu": 2}
# What the backward pass recomputes z from: xhat, xhat and the residual, or y (enough for ReLU).
AFFINE, RESIDUAL, OUTPUT = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
GATES = {"affine": 0, "residual": 1, "output": 2}


class Settings(NamedTuple):
    """How the work is split; this changes only the last digits of the results.

    tile: elements that a program loads at once.
    warp_elements: of these, per warp: 512 are 16 per thread, two 16-byte loads in bf16.
    programs: per multiprocessor, as many as run at once: 8 with up to 64 registers per thread.
    channels: of a channels-last tile; 64 are 128 bytes of bf16 in one row.
    """

    tile: int = 2048
    warp_elements: int = 512
    programs: int = 8
    channels: int = 64


# By layout. Channels last, the backward kernels need more registers, so fewer run at once.
DEFAULTS = {False: Settings(), True: Settings(programs=5)}

# (device name in torch, channels last) -> the fastest settings by ``uncus bench tune``.
TUNED: dict[tuple[str, bool], Settings] = {}

_tried: dict[bool, Settings] = {}  # by layout, on any device


@contextmanager
def using(chosen: Settings, last: bool) -> Iterator[None]:
    """Use ``chosen`` for one layout within the context, on any device."""
    before = _tried.get(last)
    _tried[last] = chosen
    try:
        yield
    finally:
        _tried.pop(last)
        if before is not None:
            _tried[last] = before


def settings(device: torch.device, last: bool) -> Settings:
    """The kernels' settings on ``device`` for one layout."""
    return _tried.get(last) or TUNED.get((device_name(device), last)) or DEFAULTS[last]


class Plan(NamedTuple):
    """How a [N, C, S] tensor is split: ``splits`` chunks of ``chunk`` voxels, in tiles.

    ``tiles`` and ``padded`` are compile-time constants of the kernels.
    """

    splits: int
    chunk: int
    block_c: int
    block_s: int
    warps: int
    programs: int
    tiles: dict[str, Any]
    padded: dict[str, Any]


@functools.lru_cache(maxsize=4096)
def plan(
    n: int, c: int, s: int, groups: int, last: bool, chosen: Settings, processors: int
) -> Plan:
    """Split a tensor of ``n`` samples, ``c`` channels in ``groups`` and ``s`` voxels."""
    block_c = min(triton.next_power_of_2(c), chosen.channels) if last else 1
    block_s = min(triton.next_power_of_2(s), max(chosen.tile // block_c, 1))
    columns = n * triton.cdiv(c, block_c)
    tiles = triton.cdiv(s, block_s)
    splits = min(max(chosen.programs * processors // columns, 1), tiles)
    chunk = triton.cdiv(tiles, splits) * block_s
    splits = triton.cdiv(s, chunk)
    warps = triton.next_power_of_2(block_c * block_s) // chosen.warp_elements
    warps = min(max(warps, 1), 8)
    return Plan(
        splits, chunk, block_c, block_s, warps, columns * splits,
        {"LAST": last, "BLOCK_C": block_c, "BLOCK_S": block_s, "num_warps": warps},
        {
            "MEMBERS": triton.next_power_of_2(c // groups),
            "SPLITS": triton.next_power_of_2(splits),
        },
    )  # fmt: skip


def plan_of(x: Tensor, groups: int, last: bool) -> Plan:
    """The plan for ``x`` [N, C, ...] on its device."""
    n, c = x.shape[:2]
    chosen = settings(x.device, last)
    return plan(n, c, x.numel() // (n * c), groups, last, chosen, processors(x.device))


@functools.cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a device (1 for Triton's interpreter on a CPU)."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@functools.cache
def device_name(device: torch.device) -> str:
    """The device's name in torch; empty for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


@triton.jit
def _position(program, C, S, splits, chunk, LAST: tl.constexpr, BLOCK_C: tl.constexpr):
    """Sample, first channel, chunk, first voxel and first element of a program."""
    split = program % splits
    column = program // splits
    columns = tl.cdiv(C, BLOCK_C)
    n = column // columns
    c0 = (column % columns) * BLOCK_C
    s0 = split * chunk
    start = n.to(tl.int64) * C * S
    if LAST:
        start += s0.to(tl.int64) * C + c0
    else:
        start += c0.to(tl.int64) * S + s0
    return n, c0, split, s0, start


@triton.jit
def _lanes(C, S, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr):
    """Offsets [BLOCK_C, BLOCK_S] within a tile, and the step from one tile to the next."""
    lane_c = tl.arange(0, BLOCK_C)[:, None]
    lane_s = tl.arange(0, BLOCK_S)[None, :]
    if LAST:
        offsets = lane_s * C + lane_c
        step = C * BLOCK_S
    else:
        offsets = lane_c * S + lane_s
        step = BLOCK_S
    return offsets, step


@triton.jit
def _activate(z, ACTIVATION: tl.constexpr):
    # Comparisons are written so that NaN stays NaN, as in torch.
    if ACTIVATION == RELU:
        z = tl.where(z <= 0, 0.0, z)
    elif ACTIVATION == SILU:
        z = z / (1 + tl.exp(-z))
    return z


@triton.jit
def _gradient(
    dy, xhat, gamma, beta, other, mask, ACTIVATION: tl.constexpr, GATE: tl.constexpr
):  # fmt: skip
    """dz from dy; ``other`` points to the residual or y, if the gate needs one."""
    if ACTIVATION == NONE:
        return dy
    if GATE == OUTPUT:
        z = tl.load(other, mask=mask, other=0).to(tl.float32)
    else:
        z = xhat * gamma + beta
        if GATE == RESIDUAL:
            z += tl.load(other, mask=mask, other=0).to(tl.float32)
    if ACTIVATION == RELU:
        return tl.where(z <= 0, 0.0, dy)
    gate = 1 / (1 + tl.exp(-z))
    return dy * gate * (1 + z * (1 - gate))


@triton.jit
def _group_moments(
    moments, size, n, g, C, S, splits, chunk, members, eps,
    MEMBERS: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Mean and 1/std of group ``g``, merged from its chunks (Chan et al. 1979)."""
    i = tl.arange(0, MEMBERS)[:, None]
    j = tl.arange(0, SPLITS)[None, :]
    mask = (i < members) & (j < splits)
    at = (n * C + g * members + i) * splits + j
    count = tl.where(mask, tl.minimum(chunk, S - j * chunk), 0).to(tl.float32)
    means = tl.load(moments + at, mask=mask, other=0)
    squares = tl.load(moments + size + at, mask=mask, other=0)
    total = S * 1.0 * members
    mean = tl.sum(tl.sum(count * means, 1), 0) / total
    deviation = means - mean
    variance = tl.sum(tl.sum(squares + count * deviation * deviation, 1), 0) / total
    return mean, 1 / tl.sqrt(variance + eps)


@triton.jit
def _moments(
    x, moments, size, C, S, splits, chunk,
    LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squared deviations of each chunk: Welford (1962) in every lane."""
    n, c0, split, s0, start = _position(tl.program_id(0), C, S, splits, chunk, LAST, BLOCK_C)
    offsets, step = _lanes(C, S, LAST, BLOCK_C, BLOCK_S)
    c = c0 + tl.arange(0, BLOCK_C)
    mean = tl.zeros([BLOCK_C, BLOCK_S], tl.float32)
    squares = tl.zeros([BLOCK_C, BLOCK_S], tl.float32)
    lane = tl.arange(0, BLOCK_S)
    length = tl.minimum(chunk, S - s0)
    number = 0.0
    for i in range(0, length, BLOCK_S):
        inside = (s0 + i + lane < S)[None, :]
        mask = (c < C)[:, None] & inside
        value = tl.load(x + start + offsets, mask=mask, other=0)
        value = value.to(tl.float32)
        number += 1.0
        delta = value - mean
        mean += tl.where(inside, delta * (1.0 / number), 0.0)
        squares += tl.where(inside, delta * (value - mean), 0.0)
        start += step
    # number of values in each lane
    count = ((length - lane + BLOCK_S - 1) // BLOCK_S).to(tl.float32)[None, :]
    chunk_mean = tl.sum(mean * count, 1) / length
    deviation = mean - chunk_mean[:, None]
    chunk_squares = tl.sum(squares + count * deviation * deviation, 1)
    at = (n * C + c) * splits + split
    tl.store(moments + at, chunk_mean, mask=c < C)
    tl.store(moments + size + at, chunk_squares, mask=c < C)


@triton.jit
def _merge_moments(
    moments, size, statistics, C, S, splits, chunk, groups, members, eps,
    MEMBERS: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    n, g = tl.program_id(0) // groups, tl.program_id(0) % groups
    mean, rstd = _group_moments(
        moments, size, n, g, C, S, splits, chunk, members, eps, MEMBERS, SPLITS
    )
    tl.store(statistics + tl.program_id(0), mean)
    tl.store(statistics + tl.num_programs(0) + tl.program_id(0), rstd)


@triton.jit
def _apply(
    x, residual, gamma, beta, y, moments, size, statistics, n_groups,
    C, S, splits, chunk, groups, members, eps,
    ACTIVATION: tl.constexpr, ADD: tl.constexpr, LAST: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr, MEMBERS: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """y = activation(gamma * (x - mean) * rstd + beta + residual)."""
    n, c0, split, s0, start = _position(tl.program_id(0), C, S, splits, chunk, LAST, BLOCK_C)
    offsets, step = _lanes(C, S, LAST, BLOCK_C, BLOCK_S)
    c = c0 + tl.arange(0, BLOCK_C)
    if LAST:
        g = n * groups + c // members
        mean = tl.load(statistics + g, mask=c < C, other=0)[:, None]
        rstd = tl.load(statistics + n_groups + g, mask=c < C, other=0)[:, None]
    else:
        g = c0 // members
        mean, rstd = _group_moments(
            moments, size, n, g, C, S, splits, chunk, members, eps, MEMBERS, SPLITS
        )
        if (split == 0) & (c0 % members == 0):
            tl.store(statistics + n * groups + g, mean)
            tl.store(statistics + n_groups + n * groups + g, rstd)
    weight = tl.load(gamma + c, mask=c < C, other=0).to(tl.float32)[:, None]
    shift = tl.load(beta + c, mask=c < C, other=0).to(tl.float32)[:, None]
    scale = rstd * weight
    tiles = tl.cdiv(tl.minimum(chunk, S - s0), BLOCK_S)
    for back in range(tiles):
        i = tiles - 1 - back
        mask = (c < C)[:, None] & (s0 + i * BLOCK_S + tl.arange(0, BLOCK_S) < S)[None, :]
        at = start + i.to(tl.int64) * step + offsets
        value = tl.load(x + at, mask=mask, other=0).to(tl.float32)
        z = (value - mean) * scale + shift
        if ADD:
            z += tl.load(residual + at, mask=mask, other=0).to(tl.float32)
        z = _activate(z, ACTIVATION)
        tl.store(y + at, z.to(y.dtype.element_ty), mask=mask)


@triton.jit
def _backward_reduce(
    x, dy, other, gamma, beta, statistics, n_groups, sums, size, dresidual,
    C, S, splits, chunk, groups, members,
    ACTIVATION: tl.constexpr, GATE: tl.constexpr, WRITE: tl.constexpr, LAST: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Sums of dz and dz * xhat over each chunk; with WRITE also dz, the residual's gradient."""
    n, c0, split, s0, start = _position(tl.program_id(0), C, S, splits, chunk, LAST, BLOCK_C)
    offsets, step = _lanes(C, S, LAST, BLOCK_C, BLOCK_S)
    c = c0 + tl.arange(0, BLOCK_C)
    g = n * groups + c // members
    mean = tl.load(statistics + g, mask=c < C, other=0)[:, None]
    rstd = tl.load(statistics + n_groups + g, mask=c < C, other=0)[:, None]
    weight = tl.load(gamma + c, mask=c < C, other=0).to(tl.float32)[:, None]
    shift = tl.load(beta + c, mask=c < C, other=0).to(tl.float32)[:, None]
    sum_dz = tl.zeros([BLOCK_C, BLOCK_S], tl.float32)
    sum_dz_xhat = tl.zeros([BLOCK_C, BLOCK_S], tl.float32)
    for i in range(0, tl.minimum(chunk, S - s0), BLOCK_S):
        mask = (c < C)[:, None] & (s0 + i + tl.arange(0, BLOCK_S) < S)[None, :]
        at = start + offsets
        value = tl.load(x + at, mask=mask, other=0).to(tl.float32)
        dz = tl.load(dy + at, mask=mask, other=0).to(tl.float32)
        xhat = (value - mean) * rstd
        dz = _gradient(dz, xhat, weight, shift, other + at, mask, ACTIVATION, GATE)
        if WRITE:
            tl.store(dresidual + at, dz.to(dresidual.dtype.element_ty), mask=mask)
        sum_dz += dz
        sum_dz_xhat += dz * xhat
        start += step
    at = (n * C + c) * splits + split
    tl.store(sums + at, tl.sum(sum_dz, 1), mask=c < C)
    tl.store(sums + size + at, tl.sum(sum_dz_xhat, 1), mask=c < C)


@triton.jit
def _channel_sums(sums, n, c, C, splits, mask, SPLITS: tl.constexpr):
    """Total of the chunks' sums for channels ``c`` of sample ``n``."""
    j = tl.arange(0, SPLITS)[None, :]
    at = (n * C + c)[:, None] * splits + j
    return tl.sum(tl.load(sums + at, mask=mask[:, None] & (j < splits), other=0), 1)


@triton.jit
def _merge_sums(
    sums, size, gamma, group_sums, n_groups, dgamma, dbeta, N, C, splits, groups, members,
    MEMBERS: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """One program per group: its two sums for every sample, and its channels' dgamma, dbeta."""
    g = tl.program_id(0)
    i = tl.arange(0, MEMBERS)
    mask = i < members
    c = g * members + i
    weight = tl.load(gamma + c, mask=mask, other=0).to(tl.float32)
    total_dz = tl.zeros([MEMBERS], tl.float32)
    total_dz_xhat = tl.zeros([MEMBERS], tl.float32)
    for n in range(N):
        dz = _channel_sums(sums, n, c, C, splits, mask, SPLITS)
        dz_xhat = _channel_sums(sums + size, n, c, C, splits, mask, SPLITS)
        tl.store(group_sums + n * groups + g, tl.sum(weight * dz, 0))
        tl.store(group_sums + n_groups + n * groups + g, tl.sum(weight * dz_xhat, 0))
        total_dz += dz
        total_dz_xhat += dz_xhat
    tl.store(dbeta + c, total_dz.to(dbeta.dtype.element_ty), mask=mask)
    tl.store(dgamma + c, total_dz_xhat.to(dgamma.dtype.element_ty), mask=mask)


@triton.jit
def _backward_apply(
    x, dy, other, gamma, beta, statistics, n_groups, sums, size, group_sums, dx, dgamma, dbeta,
    N, C, S, splits, chunk, groups, members,
    ACTIVATION: tl.constexpr, GATE: tl.constexpr, LAST: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr, MEMBERS: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """dx = rstd * (gamma * dz - mean(gamma * dz) - xhat * mean(gamma * dz * xhat))."""
    n, c0, split, s0, start = _position(tl.program_id(0), C, S, splits, chunk, LAST, BLOCK_C)
    offsets, step = _lanes(C, S, LAST, BLOCK_C, BLOCK_S)
    c = c0 + tl.arange(0, BLOCK_C)
    g = n * groups + c // members
    mean = tl.load(statistics + g, mask=c < C, other=0)[:, None]
    rstd = tl.load(statistics + n_groups + g, mask=c < C, other=0)[:, None]
    weight = tl.load(gamma + c, mask=c < C, other=0).to(tl.float32)[:, None]
    shift = tl.load(beta + c, mask=c < C, other=0).to(tl.float32)[:, None]
    if LAST:
        mean_dz = tl.load(group_sums + g, mask=c < C, other=0)[:, None]
        mean_dz_xhat = tl.load(group_sums + n_groups + g, mask=c < C, other=0)[:, None]
    else:
        j = tl.arange(0, MEMBERS)
        member = (c0 // members) * members + j
        weights = tl.load(gamma + member, mask=j < members, other=0).to(tl.float32)
        sum_dz = _channel_sums(sums, n, member, C, splits, j < members, SPLITS)
        sum_dz_xhat = _channel_sums(sums + size, n, member, C, splits, j < members, SPLITS)
        mean_dz = tl.sum(weights * sum_dz, 0)
        mean_dz_xhat = tl.sum(weights * sum_dz_xhat, 0)
        if (n == 0) & (split == 0):
            total_dz = tl.zeros([BLOCK_C], tl.float32)
            total_dz_xhat = tl.zeros([BLOCK_C], tl.float32)
            for k in range(N):
                total_dz += _channel_sums(sums, k, c, C, splits, c < C, SPLITS)
                total_dz_xhat += _channel_sums(sums + size, k, c, C, splits, c < C, SPLITS)
            tl.store(dbeta + c, total_dz.to(dbeta.dtype.element_ty))
            tl.store(dgamma + c, total_dz_xhat.to(dgamma.dtype.element_ty))
    count = S * 1.0 * members
    mean_dz = mean_dz / count
    mean_dz_xhat = mean_dz_xhat / count
    tiles = tl.cdiv(tl.minimum(chunk, S - s0), BLOCK_S)
    for back in range(tiles):
        i = tiles - 1 - back
        mask = (c < C)[:, None] & (s0 + i * BLOCK_S + tl.arange(0, BLOCK_S) < S)[None, :]
        at = start + i.to(tl.int64) * step + offsets
        value = tl.load(x + at, mask=mask, other=0, eviction_policy="evict_first").to(tl.float32)
        dz = tl.load(dy + at, mask=mask, other=0, eviction_policy="evict_first").to(tl.float32)
        xhat = (value - mean) * rstd
        dz = _gradient(dz, xhat, weight, shift, other + at, mask, ACTIVATION, GATE)
        gradient = rstd * (weight * dz - mean_dz - xhat * mean_dz_xhat)
        tl.store(dx + at, gradient.to(dx.dtype.element_ty), mask=mask)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None,
    groups: int, eps: float, activation: str, last: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Normalize ``x`` [N, C, ...], dense and channels last if ``last``.

    Returns y (like x), and mean and 1/std [2, N, groups] in float32.
    """
    n, c = x.shape[:2]
    s = x.numel() // (n * c)
    cut = plan_of(x, groups, last)
    size = n * c * cut.splits
    moments = torch.empty(2 * size, dtype=torch.float32, device=x.device)
    statistics = torch.empty(2, n, groups, dtype=torch.float32, device=x.device)
    y = torch.empty_like(x)
    members = c // groups
    shape = (c, s, cut.splits, cut.chunk)
    _moments[(cut.programs,)](x, moments, size, *shape, **cut.tiles)
    if last:
        _merge_moments[(n * groups,)](
            moments, size, statistics, *shape, groups, members, eps, **cut.padded, num_warps=8
        )
    _apply[(cut.programs,)](
        x, x if residual is None else residual, weight, bias, y, moments, size, statistics,
        n * groups, *shape, groups, members, eps,
        ACTIVATION=ACTIVATIONS[activation], ADD=residual is not None, **cut.tiles, **cut.padded,
    )  # fmt: skip
    return y, statistics


def backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, other: Tensor | None, gate: str,
    statistics: Tensor, activation: str, last: bool, write: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
    """dx, dgamma, dbeta and, with ``write``, the residual's gradient (otherwise None).

    ``dy`` and ``other`` (y or the residual, depending on ``gate``) are dense like ``x``;
    ``statistics`` are those of `forward`.
    """
    n, c = x.shape[:2]
    s = x.numel() // (n * c)
    groups = statistics.shape[2]
    cut = plan_of(x, groups, last)
    size = n * c * cut.splits
    sums = torch.empty(2 * size, dtype=torch.float32, device=x.device)
    group_sums = torch.empty_like(statistics)
    dx = torch.empty_like(x)
    dz = torch.empty_like(x) if write else None
    dgamma, dbeta = torch.empty_like(weight), torch.empty_like(bias)
    members = c // groups
    shape = (c, s, cut.splits, cut.chunk, groups, members)
    kind = {"ACTIVATION": ACTIVATIONS[activation], "GATE": GATES[gate]}
    _backward_reduce[(cut.programs,)](
        x, dy, x if other is None else other, weight, bias, statistics, n * groups, sums, size,
        x if dz is None else dz, *shape, WRITE=write, **kind, **cut.tiles,
    )  # fmt: skip
    if last:
        _merge_sums[(groups,)](
            sums, size, weight, group_sums, n * groups, dgamma, dbeta,
            n, c, cut.splits, groups, members, **cut.padded, num_warps=8,
        )  # fmt: skip
    if dz is not None:  # the gate has been applied
        dy, other, kind = dz, None, {"ACTIVATION": 0, "GATE": 0}
    _backward_apply[(cut.programs,)](
        x, dy, x if other is None else other, weight, bias, statistics, n * groups, sums, size,
        group_sums, dx, dgamma, dbeta, n, *shape, **kind, **cut.tiles, **cut.padded,
    )  # fmt: skip
    return dx, dgamma, dbeta, dz
