# ruff: noqa: N803 - C, S and the constants in capitals are the names that kernels use
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""Triton kernels of large groups: every channel in chunks, in two passes.

    moments          mean and squared deviations of every chunk             reads x
    apply            merges a group's chunks, normalizes, adds, activates   reads x, writes y
    backward_reduce  sums of dz and dz * xhat of every chunk                reads x, dy
    backward_apply   merges them: dx, dgamma, dbeta                         reads x, dy, writes dx

Partial results are written out and merged in a fixed order, without atomics, so the same input
gives the same bits on the same kind of device. The first pass of a direction loads tiles
asynchronously, two ahead of the one in work. The second runs backward through each chunk, whose end
is still in the cache, and marks what it reads as the first to leave the cache, since the next
operation needs what it writes; an asynchronous copy cannot (Triton 3.7), nor does it help here,
where no iteration waits for another.

In the first layout a program processes one channel and merges its group's few chunks itself;
channels last its tile spans many groups, and a small kernel (``merge_*``) merges once for all.
"""

import triton
import triton.language as tl

from uncus.models.fused.tiles import (
    AFFINE,
    activate,
    chunk_of,
    gradient,
    load_channels,
    load_tile,
    multiple,
    store_tile,
)

STAGES = tl.constexpr(3)


@triton.jit
def group_moments(
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
def moments_kernel(
    x, moments, size, C, S, splits, chunk,
    LAST: tl.constexpr, EVEN: tl.constexpr, EDGES: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squared deviations of each chunk: Welford (1962) in every lane."""
    if LAST:
        C = multiple(C, EVEN)  # noqa: N806
    n, c0, split, row, turn = chunk_of(tl.program_id(0), C, S, splits, LAST, EDGES, BLOCK_C)
    c = c0 + tl.arange(0, BLOCK_C)
    mean = tl.zeros([BLOCK_C, BLOCK_S], tl.float32)
    squares = tl.zeros([BLOCK_C, BLOCK_S], tl.float32)
    lane = tl.arange(0, BLOCK_S)
    s0 = split * chunk
    length = tl.minimum(chunk, S - s0)
    number = 0.0
    for i in tl.range(0, length, BLOCK_S, num_stages=STAGES):
        inside = (s0 + i + lane < S)[None, :]
        value = load_tile(x, row, s0 + i, turn, c < C, C, S, LAST, EDGES, BLOCK_C, BLOCK_S)
        number += 1.0
        delta = value - mean
        mean += tl.where(inside, delta * (1.0 / number), 0.0)
        squares += tl.where(inside, delta * (value - mean), 0.0)
    # number of values in each lane
    count = ((length - lane + BLOCK_S - 1) // BLOCK_S).to(tl.float32)[None, :]
    chunk_mean = tl.sum(mean * count, 1) / length
    deviation = mean - chunk_mean[:, None]
    chunk_squares = tl.sum(squares + count * deviation * deviation, 1)
    at = (n * C + c) * splits + split
    tl.store(moments + at, chunk_mean, mask=c < C)
    tl.store(moments + size + at, chunk_squares, mask=c < C)


@triton.jit
def merge_moments_kernel(
    moments, statistics, size, C, S, splits, chunk, groups, members, eps,
    MEMBERS: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Mean and 1/std of every group, one program each."""
    n, g = tl.program_id(0) // groups, tl.program_id(0) % groups
    mean, rstd = group_moments(
        moments, size, n, g, C, S, splits, chunk, members, eps, MEMBERS, SPLITS
    )
    tl.store(statistics + tl.program_id(0), mean)
    tl.store(statistics + tl.num_programs(0) + tl.program_id(0), rstd)


@triton.jit
def apply_kernel(
    x, residual, gamma, beta, y, moments, statistics,
    size, n_groups, C, S, splits, chunk, groups, members, eps,
    ACTIVATION: tl.constexpr, ADD: tl.constexpr,
    LAST: tl.constexpr, EVEN: tl.constexpr, EDGES: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr, MEMBERS: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """y = activation(gamma * (x - mean) * rstd + beta + residual)."""
    if LAST:
        C = multiple(C, EVEN)  # noqa: N806
    n, c0, split, row, turn = chunk_of(tl.program_id(0), C, S, splits, LAST, EDGES, BLOCK_C)
    c = c0 + tl.arange(0, BLOCK_C)
    if LAST:
        g = n * groups + c // members
        mean = load_channels(statistics, g, c < C)
        rstd = load_channels(statistics + n_groups, g, c < C)
    else:
        g = c0 // members
        mean, rstd = group_moments(
            moments, size, n, g, C, S, splits, chunk, members, eps, MEMBERS, SPLITS
        )
        if (split == 0) & (c0 % members == 0):
            tl.store(statistics + n * groups + g, mean)
            tl.store(statistics + n_groups + n * groups + g, rstd)
    scale = rstd * load_channels(gamma, c, c < C)
    shift = load_channels(beta, c, c < C)
    s0 = split * chunk
    tiles = tl.cdiv(tl.minimum(chunk, S - s0), BLOCK_S)
    for back in range(tiles):
        s = s0 + (tiles - 1 - back) * BLOCK_S
        value = load_tile(x, row, s, turn, c < C, C, S, LAST, EDGES, BLOCK_C, BLOCK_S, True)
        z = (value - mean) * scale + shift
        if ADD:
            z += load_tile(residual, row, s, turn, c < C, C, S, LAST, EDGES, BLOCK_C, BLOCK_S, True)
        z = activate(z, ACTIVATION)
        store_tile(y, z, row, s, turn, c < C, C, S, LAST, EDGES, BLOCK_C, BLOCK_S)


@triton.jit
def backward_reduce_kernel(
    x, dy, other, gamma, beta, statistics, sums, dresidual,
    size, n_groups, C, S, splits, chunk, groups, members,
    ACTIVATION: tl.constexpr, GATE: tl.constexpr, WRITE: tl.constexpr,
    LAST: tl.constexpr, EVEN: tl.constexpr, EDGES: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Sums of dz and dz * xhat over each chunk; with WRITE also dz, the residual's gradient."""
    if LAST:
        C = multiple(C, EVEN)  # noqa: N806
    n, c0, split, row, turn = chunk_of(tl.program_id(0), C, S, splits, LAST, EDGES, BLOCK_C)
    c = c0 + tl.arange(0, BLOCK_C)
    g = n * groups + c // members
    mean = load_channels(statistics, g, c < C)
    rstd = load_channels(statistics + n_groups, g, c < C)
    weight = load_channels(gamma, c, c < C)
    shift = load_channels(beta, c, c < C)
    sum_dz = tl.zeros([BLOCK_C, BLOCK_S], tl.float32)
    sum_dz_xhat = tl.zeros([BLOCK_C, BLOCK_S], tl.float32)
    s0 = split * chunk
    for i in tl.range(0, tl.minimum(chunk, S - s0), BLOCK_S, num_stages=STAGES):
        s = s0 + i
        value = load_tile(x, row, s, turn, c < C, C, S, LAST, EDGES, BLOCK_C, BLOCK_S)
        dz = load_tile(dy, row, s, turn, c < C, C, S, LAST, EDGES, BLOCK_C, BLOCK_S)
        extra = dz
        if GATE != AFFINE:
            extra = load_tile(other, row, s, turn, c < C, C, S, LAST, EDGES, BLOCK_C, BLOCK_S)
        xhat = (value - mean) * rstd
        dz = gradient(dz, xhat, weight, shift, extra, ACTIVATION, GATE)
        if WRITE:
            store_tile(dresidual, dz, row, s, turn, c < C, C, S, LAST, EDGES, BLOCK_C, BLOCK_S)
        sum_dz += dz
        sum_dz_xhat += dz * xhat
    at = (n * C + c) * splits + split
    tl.store(sums + at, tl.sum(sum_dz, 1), mask=c < C)
    tl.store(sums + size + at, tl.sum(sum_dz_xhat, 1), mask=c < C)


@triton.jit
def channel_sums(sums, n, c, C, splits, mask, SPLITS: tl.constexpr):
    """Total of the chunks' sums for channels ``c`` of sample ``n``."""
    j = tl.arange(0, SPLITS)[None, :]
    at = (n * C + c)[:, None] * splits + j
    return tl.sum(tl.load(sums + at, mask=mask[:, None] & (j < splits), other=0), 1)


@triton.jit
def merge_sums_kernel(
    sums, gamma, group_sums, dgamma, dbeta, size, n_groups, N, C, splits, groups, members,
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
        dz = channel_sums(sums, n, c, C, splits, mask, SPLITS)
        dz_xhat = channel_sums(sums + size, n, c, C, splits, mask, SPLITS)
        tl.store(group_sums + n * groups + g, tl.sum(weight * dz, 0))
        tl.store(group_sums + n_groups + n * groups + g, tl.sum(weight * dz_xhat, 0))
        total_dz += dz
        total_dz_xhat += dz_xhat
    tl.store(dbeta + c, total_dz.to(dbeta.dtype.element_ty), mask=mask)
    tl.store(dgamma + c, total_dz_xhat.to(dgamma.dtype.element_ty), mask=mask)


@triton.jit
def backward_apply_kernel(
    x, dy, other, gamma, beta, statistics, sums, group_sums, dx, dgamma, dbeta,
    size, n_groups, N, C, S, splits, chunk, groups, members,
    ACTIVATION: tl.constexpr, GATE: tl.constexpr,
    LAST: tl.constexpr, EVEN: tl.constexpr, EDGES: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr, MEMBERS: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """dx = rstd * (gamma * dz - mean(gamma * dz) - xhat * mean(gamma * dz * xhat))."""
    if LAST:
        C = multiple(C, EVEN)  # noqa: N806
    n, c0, split, row, turn = chunk_of(tl.program_id(0), C, S, splits, LAST, EDGES, BLOCK_C)
    c = c0 + tl.arange(0, BLOCK_C)
    g = n * groups + c // members
    mean = load_channels(statistics, g, c < C)
    rstd = load_channels(statistics + n_groups, g, c < C)
    weight = load_channels(gamma, c, c < C)
    shift = load_channels(beta, c, c < C)
    if LAST:
        mean_dz = load_channels(group_sums, g, c < C)
        mean_dz_xhat = load_channels(group_sums + n_groups, g, c < C)
    else:
        j = tl.arange(0, MEMBERS)
        member = (c0 // members) * members + j
        weights = tl.load(gamma + member, mask=j < members, other=0).to(tl.float32)
        sum_dz = channel_sums(sums, n, member, C, splits, j < members, SPLITS)
        sum_dz_xhat = channel_sums(sums + size, n, member, C, splits, j < members, SPLITS)
        mean_dz = tl.sum(weights * sum_dz, 0)
        mean_dz_xhat = tl.sum(weights * sum_dz_xhat, 0)
        if (n == 0) & (split == 0):
            total_dz = tl.zeros([BLOCK_C], tl.float32)
            total_dz_xhat = tl.zeros([BLOCK_C], tl.float32)
            for k in range(N):
                total_dz += channel_sums(sums, k, c, C, splits, c < C, SPLITS)
                total_dz_xhat += channel_sums(sums + size, k, c, C, splits, c < C, SPLITS)
            tl.store(dbeta + c, total_dz.to(dbeta.dtype.element_ty))
            tl.store(dgamma + c, total_dz_xhat.to(dgamma.dtype.element_ty))
    count = S * 1.0 * members
    mean_dz = mean_dz / count
    mean_dz_xhat = mean_dz_xhat / count
    s0 = split * chunk
    tiles = tl.cdiv(tl.minimum(chunk, S - s0), BLOCK_S)
    for back in range(tiles):
        s = s0 + (tiles - 1 - back) * BLOCK_S
        value = load_tile(x, row, s, turn, c < C, C, S, LAST, EDGES, BLOCK_C, BLOCK_S, True)
        dz = load_tile(dy, row, s, turn, c < C, C, S, LAST, EDGES, BLOCK_C, BLOCK_S, True)
        extra = dz
        if GATE != AFFINE:
            extra = load_tile(other, row, s, turn, c < C, C, S, LAST, EDGES, BLOCK_C, BLOCK_S, True)
        xhat = (value - mean) * rstd
        dz = gradient(dz, xhat, weight, shift, extra, ACTIVATION, GATE)
        dx_value = rstd * (weight * dz - mean_dz - xhat * mean_dz_xhat)
        store_tile(dx, dx_value, row, s, turn, c < C, C, S, LAST, EDGES, BLOCK_C, BLOCK_S)
