# ruff: noqa: N803 - C, S and the constants in capitals are the names that kernels use
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""Triton kernels of small groups: one program per group, one launch per direction.

A group that one multiprocessor reads in about the time of a launch needs no second kernel. Its
tiles are whole rows: next to each other in the group, each of complete channels, or channels last,
of all its channels at some voxels. If there is one tile only (``SINGLE``) it stays in registers;
otherwise the second pass finds it in the cache.
"""

import triton
import triton.language as tl

from uncus.models.fused.tiles import (
    AFFINE,
    activate,
    gradient,
    load_channels,
    load_tile,
    multiple,
    store_tile,
)


@triton.jit
def group_of(C, S, groups, members, LAST: tl.constexpr):
    """Sample, group and row of a program."""
    n, g = tl.program_id(0) // groups, tl.program_id(0) % groups
    row = n.to(tl.int64) * C * S
    if LAST:
        row += g * members
    else:
        row += (g * members).to(tl.int64) * S
    return n, g, row


@triton.jit
def tile_of(
    t, row, S, members, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr
):  # fmt: skip
    """Row, voxel and channels (within the group) of tile ``t``, and which of them there are."""
    i = tl.arange(0, BLOCK_C)
    if LAST:
        return row, t * BLOCK_S, i, i < members
    else:
        i += t * BLOCK_C
        return row + tl.cast(t, tl.int64) * BLOCK_C * S, 0, i, i < members


@triton.jit
def tiles_in(S, members, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr):
    """Number of tiles of a group."""
    if LAST:
        return tl.cdiv(S, BLOCK_S)
    else:
        return tl.cdiv(members, BLOCK_C)


@triton.jit
def normalize_tile(
    value, mean, rstd, residual, gamma, beta, y, row, s, c, keep, C, S,
    ACTIVATION: tl.constexpr, ADD: tl.constexpr, LAST: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Store y of a tile of x."""
    scale = rstd * load_channels(gamma, c, keep)
    z = (value - mean) * scale + load_channels(beta, c, keep)
    if ADD:
        z += load_tile(residual, row, s, 0, keep, C, S, LAST, False, BLOCK_C, BLOCK_S)
    z = activate(z, ACTIVATION)
    store_tile(y, z, row, s, 0, keep, C, S, LAST, False, BLOCK_C, BLOCK_S)


@triton.jit
def forward_kernel(
    x, residual, gamma, beta, y, statistics, n_groups, C, S, groups, members, eps,
    ACTIVATION: tl.constexpr, ADD: tl.constexpr, LAST: tl.constexpr, EVEN: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr, SINGLE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Statistics and y of a group.

    Variance from squares of deviations from the first tile's mean: of k tiles, this loses at most
    a factor of k in precision, whatever the values.
    """
    if LAST:
        C = multiple(C, EVEN)  # noqa: N806
    else:
        S = multiple(S, EVEN)  # noqa: N806
    _, g, start = group_of(C, S, groups, members, LAST)
    tiles = tiles_in(S, members, LAST, BLOCK_C, BLOCK_S)
    count = S * 1.0 * members
    voxel = tl.arange(0, BLOCK_S)[None, :]
    row, s, i, keep = tile_of(0, start, S, members, LAST, BLOCK_C, BLOCK_S)
    value = load_tile(x, row, s, 0, keep, C, S, LAST, False, BLOCK_C, BLOCK_S)
    inside = keep[:, None] & (voxel < S)
    center = tl.sum(tl.sum(value, 1), 0) / tl.sum(tl.sum(inside.to(tl.float32), 1), 0)
    deviation = tl.where(inside, value - center, 0.0)
    total = deviation
    squares = deviation * deviation
    if not SINGLE:
        for t in tl.range(1, tiles, num_stages=STAGES):
            row_t, s_t, i_t, keep_t = tile_of(t, start, S, members, LAST, BLOCK_C, BLOCK_S)
            value_t = load_tile(x, row_t, s_t, 0, keep_t, C, S, LAST, False, BLOCK_C, BLOCK_S)
            inside_t = keep_t[:, None] & (s_t + voxel < S)
            deviation_t = tl.where(inside_t, value_t - center, 0.0)
            total += deviation_t
            squares += deviation_t * deviation_t
    moved = tl.sum(tl.sum(total, 1), 0) / count
    mean = center + moved
    variance = tl.sum(tl.sum(squares, 1), 0) / count - moved * moved
    rstd = 1 / tl.sqrt(tl.where(variance < 0, 0.0, variance) + eps)
    tl.store(statistics + tl.program_id(0), mean)
    tl.store(statistics + n_groups + tl.program_id(0), rstd)
    if SINGLE:
        normalize_tile(
            value, mean, rstd, residual, gamma, beta, y, row, s, g * members + i, keep, C, S,
            ACTIVATION, ADD, LAST, BLOCK_C, BLOCK_S,
        )  # fmt: skip
    else:
        for t in tl.range(0, tiles, num_stages=STAGES):
            row_t, s_t, i_t, keep_t = tile_of(t, start, S, members, LAST, BLOCK_C, BLOCK_S)
            value_t = load_tile(x, row_t, s_t, 0, keep_t, C, S, LAST, False, BLOCK_C, BLOCK_S)
            normalize_tile(
                value_t, mean, rstd, residual, gamma, beta, y, row_t, s_t, g * members + i_t,
                keep_t, C, S, ACTIVATION, ADD, LAST, BLOCK_C, BLOCK_S,
            )  # fmt: skip


@triton.jit
def gradients_of_tile(
    x, dy, other, gamma, beta, mean, rstd, row, s, c, keep, C, S,
    ACTIVATION: tl.constexpr, GATE: tl.constexpr, LAST: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """xhat, dz and gamma of a tile."""
    value = load_tile(x, row, s, 0, keep, C, S, LAST, False, BLOCK_C, BLOCK_S)
    dz = load_tile(dy, row, s, 0, keep, C, S, LAST, False, BLOCK_C, BLOCK_S)
    extra = dz
    if GATE != AFFINE:
        extra = load_tile(other, row, s, 0, keep, C, S, LAST, False, BLOCK_C, BLOCK_S)
    weight = load_channels(gamma, c, keep)
    xhat = (value - mean) * rstd
    dz = gradient(dz, xhat, weight, load_channels(beta, c, keep), extra, ACTIVATION, GATE)
    return xhat, dz, weight


@triton.jit
def store_gradients(
    xhat, dz, weight, rstd, mean_dz, mean_dz_xhat, dx, dresidual, row, s, keep, C, S,
    WRITE: tl.constexpr, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Store dx of a tile; with WRITE also dz, the residual's gradient."""
    value = rstd * (weight * dz - mean_dz - xhat * mean_dz_xhat)
    store_tile(dx, value, row, s, 0, keep, C, S, LAST, False, BLOCK_C, BLOCK_S)
    if WRITE:
        store_tile(dresidual, dz, row, s, 0, keep, C, S, LAST, False, BLOCK_C, BLOCK_S)


@triton.jit
def sum_tile(xhat, dz, weight, dgamma, dbeta, at, keep, LAST: tl.constexpr):
    """Sums of dz and dz * xhat of a tile's channels, and of gamma times those over all."""
    sum_dz = tl.sum(dz, 1)
    sum_dz_xhat = tl.sum(dz * xhat, 1)
    if not LAST:  # the channels are complete
        store_channels(dgamma, dbeta, at, sum_dz, sum_dz_xhat, keep)
    gamma = tl.sum(weight, 1)
    return sum_dz, sum_dz_xhat, tl.sum(gamma * sum_dz, 0), tl.sum(gamma * sum_dz_xhat, 0)


@triton.jit
def store_channels(dgamma, dbeta, at, sum_dz, sum_dz_xhat, keep):
    """Store two sums of channels."""
    tl.store(dbeta + at, sum_dz.to(dbeta.dtype.element_ty), mask=keep)
    tl.store(dgamma + at, sum_dz_xhat.to(dgamma.dtype.element_ty), mask=keep)


@triton.jit
def backward_kernel(
    x, dy, other, gamma, beta, statistics, dx, dresidual, dgamma, dbeta,
    n_groups, C, S, groups, members,
    ACTIVATION: tl.constexpr, GATE: tl.constexpr, WRITE: tl.constexpr,
    LAST: tl.constexpr, EVEN: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr, SINGLE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """dx of a group, and for its channels the sums of dz * xhat and dz in each sample [N, C]."""
    if LAST:
        C = multiple(C, EVEN)  # noqa: N806
    else:
        S = multiple(S, EVEN)  # noqa: N806
    n, g, start = group_of(C, S, groups, members, LAST)
    tiles = tiles_in(S, members, LAST, BLOCK_C, BLOCK_S)
    mean = tl.load(statistics + tl.program_id(0))
    rstd = tl.load(statistics + n_groups + tl.program_id(0))
    c0 = g * members
    count = S * 1.0 * members
    if SINGLE:
        row, s, i, keep = tile_of(0, start, S, members, LAST, BLOCK_C, BLOCK_S)
        xhat, dz, weight = gradients_of_tile(
            x, dy, other, gamma, beta, mean, rstd, row, s, c0 + i, keep, C, S,
            ACTIVATION, GATE, LAST, BLOCK_C, BLOCK_S,
        )  # fmt: skip
        sum_dz, sum_dz_xhat, mean_dz, mean_dz_xhat = sum_tile(
            xhat, dz, weight, dgamma, dbeta, n * C + c0 + i, keep, LAST
        )
        store_gradients(
            xhat, dz, weight, rstd, mean_dz / count, mean_dz_xhat / count, dx, dresidual,
            row, s, keep, C, S, WRITE, LAST, BLOCK_C, BLOCK_S,
        )  # fmt: skip
    else:
        sum_dz = tl.zeros([BLOCK_C], tl.float32)
        sum_dz_xhat = tl.zeros([BLOCK_C], tl.float32)
        mean_dz = 0.0
        mean_dz_xhat = 0.0
        for t in tl.range(0, tiles, num_stages=STAGES):
            row, s, i, keep = tile_of(t, start, S, members, LAST, BLOCK_C, BLOCK_S)
            xhat, dz, weight = gradients_of_tile(
                x, dy, other, gamma, beta, mean, rstd, row, s, c0 + i, keep, C, S,
                ACTIVATION, GATE, LAST, BLOCK_C, BLOCK_S,
            )  # fmt: skip
            sums = sum_tile(xhat, dz, weight, dgamma, dbeta, n * C + c0 + i, keep, LAST)
            sum_dz += sums[0]
            sum_dz_xhat += sums[1]
            mean_dz += sums[2]
            mean_dz_xhat += sums[3]
        for t in tl.range(0, tiles, num_stages=STAGES):
            row, s, i, keep = tile_of(t, start, S, members, LAST, BLOCK_C, BLOCK_S)
            xhat, dz, weight = gradients_of_tile(
                x, dy, other, gamma, beta, mean, rstd, row, s, c0 + i, keep, C, S,
                ACTIVATION, GATE, LAST, BLOCK_C, BLOCK_S,
            )  # fmt: skip
            store_gradients(
                xhat, dz, weight, rstd, mean_dz / count, mean_dz_xhat / count, dx, dresidual,
                row, s, keep, C, S, WRITE, LAST, BLOCK_C, BLOCK_S,
            )  # fmt: skip
    if LAST:
        i = tl.arange(0, BLOCK_C)
        store_channels(dgamma, dbeta, n * C + c0 + i, sum_dz, sum_dz_xhat, i < members)
