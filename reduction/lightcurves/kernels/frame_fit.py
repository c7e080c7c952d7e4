"""The robust fits of one frame, without each fold and of all, compiled as one pass over its rows.

Rows of a frame are gathered once for each fit into buffers of a task, terms by columns, so that every loop runs over what stands side by
side; nothing as long as the night is copied. Tasks hold no lock and write to rows of their own: threads may work them at once, in any
order, with the same digits.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from reduction.kernels.robust import MAD_TO_SIGMA

__all__ = ["fit_range", "inverse_of"]


HUBER_STEPS = 3
"""Iterations with Huber weights before the redescending ones: Tukey's alone can settle in a wrong minimum."""
HUBER_TUNING = 1.345
"""Huber's tuning constant (95 % efficient for Gaussian errors)."""
BLOCK = 512
"""Rows that the sums take at a time: with their terms they stay in the nearest cache."""
NEAR = 0.06
"""Relative width about the last median within which the next is looked for first."""

# Only the order of sums is free: values are finite in these loops. They become part of their caller: as functions of their own there would
# be two machine codes of each, with other orders, and which is called would depend on whether this process compiled it or found it cached.
_SUMS = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True)
def fit_range(first, last, ends, given, reference, variance, design, fold, terms, choice, out):  # type: ignore[no-untyped-def]
    """Fit frames `first` to `last` - 1.

    Parameters
    ----------
    first, last : int
        Frames to be fitted.
    ends : int[f + 1]
        Rows of frame i are ``ends[i]:ends[i + 1]``.
    given : tuple of arrays, shape (rows,)
        mag and sigma (float64; mag), star (int64) and eligible (bool).
    reference, variance : float64, shape (1, n) or (n_fold + 1, n)
        Magnitude and squared error of every star (mag, mag^2) in the fit without each fold, and last in that of all.
    design : float64, shape (rows, p)
        Terms.
    fold : int64, shape (n,)
        Fold of each star.
    terms : bool, shape (f, p)
        Terms to fit.
    choice : (float, float, int)
        Clip, floor (negative: to be estimated) and most iterations.
    out : tuple of arrays
        coeff (f, n_fold, p), coeff_all (f, p), fitted (rows,), zp_err (f, n_fold), rms (f,), n_fit (f,), floor (f,), fold_floor
        (f, n_fold), used (rows,); zero before, and written for these frames alone.
    """
    coeff, coeff_all, fitted, zp_err, rms, n_fit, floors, fold_floor, used = out
    n_fold, longest = coeff.shape[1], 0
    for f in range(first, last):
        longest = max(longest, ends[f + 1] - ends[f])
    room, rows = np.empty((design.shape[1], longest)), np.empty((_ROWS, longest))
    place = np.empty(longest, dtype=np.int64)
    for f in range(first, last):
        columns = _chosen(terms[f])
        moments, number = _moments(ends[f], ends[f + 1], given, design, fold, columns, n_fold)
        m = 0
        for k in range(n_fold + 1):
            m = _gather(ends[f], ends[f + 1], k, given, reference, variance, design, fold, columns, room, rows, place)
            solution, covariance, floor = _fit_one(room, rows, columns.size, m, choice)
            target = coeff[f, k] if k < n_fold else coeff_all[f]
            for i in range(columns.size):
                target[columns[i]] = solution[i]
            if k < n_fold:
                fold_floor[f, k], zp_err[f, k] = floor, _typical_error(k, moments, number, covariance)
            else:
                floors[f] = floor
        _correct(f, ends[f], ends[f + 1], given[2], design, fold, coeff, fitted)
        n_fit[f], rms[f] = _judge(rows, place, m, design, coeff_all[f], fitted, used)


# Rows of the buffer: dmag, squared error, inverse variance, squared deviation, weight, residual, and two to work in.
_ROWS = 8
_Y, _SQUARE, _INVERSE, _DEVIATION, _WEIGHT, _RESIDUAL, _WORK, _MORE = range(_ROWS)


@njit(cache=True, nogil=True)
def _judge(rows, place, m, design, coeff_all, fitted, used):  # type: ignore[no-untyped-def]
    """Number of the stars used in the fit to all, which are marked, and their weighted rms about what was held out."""
    number, total, square = 0, 0.0, 0.0
    for i in range(m):
        row, weight = place[i], rows[_WEIGHT, i]
        if weight > 0:
            used[row] = True
            number += 1
            # Stars whose fold leaves too few others for a fit are judged by that of all: the frame's other folds are used.
            held_out = fitted[row] if np.isfinite(fitted[row]) else _product(design[row], coeff_all)
            total += weight
            square += weight * (rows[_Y, i] - held_out) ** 2
    return number, np.sqrt(square / total) if total > 0 else np.nan


@njit(cache=True, nogil=True)
def _chosen(terms):  # type: ignore[no-untyped-def]
    columns = np.empty(terms.size, dtype=np.int64)
    p = 0
    for j in range(terms.size):
        columns[p] = j
        p += terms[j]
    return columns[:p]


@njit(cache=True, nogil=True)
def _finite(terms):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(terms.size):
        total += 0.0 * terms[j]
    return total == 0.0


@njit(cache=True, nogil=True)
def _product(terms, coefficients):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(terms.size):
        total += terms[j] * coefficients[j]
    return total


@njit(cache=True, nogil=True)
def _correct(f, begin, end, star, design, fold, coeff, fitted):  # type: ignore[no-untyped-def]
    """Correction of every row with the coefficients of its star's fold; NaN where a term is not finite."""
    for row in range(begin, end):
        fitted[row] = np.nan
        k = fold[star[row]]
        if 0 <= k < coeff.shape[1] and _finite(design[row]):
            fitted[row] = _product(design[row], coeff[f, k])


@njit(cache=True, nogil=True)
def _moments(begin, end, given, design, fold, columns, n_fold):  # type: ignore[no-untyped-def]
    """Sums of the products of terms over each fold's offered stars, and last over those of all, with their numbers."""
    p = columns.size
    moments, number = np.zeros((n_fold + 1, p, p)), np.zeros(n_fold + 1)
    terms = np.empty(p)
    for row in range(begin, end):
        if not given[3][row] or not _finite(design[row]):
            continue
        k = fold[given[2][row]]
        if not 0 <= k < n_fold:
            k = n_fold
        for j in range(p):
            terms[j] = design[row, columns[j]]
        number[k] += 1
        for i in range(p):
            for j in range(i + 1):
                moments[k, i, j] += terms[i] * terms[j]
    for k in range(n_fold):
        number[n_fold] += number[k]
        for i in range(p):
            for j in range(i + 1):
                moments[n_fold, i, j] += moments[k, i, j]
    return moments, number


@njit(cache=True, nogil=True)
def _typical_error(k, moments, number, covariance):  # type: ignore[no-untyped-def]
    """Rms standard error of a frame's correction over the fold's offered stars, or over all offered where it has none."""
    which = k if number[k] > 0 else number.size - 1
    if number[which] == 0:
        return np.nan
    total = 0.0
    for i in range(covariance.shape[0]):
        for j in range(i + 1):
            total += moments[which, i, j] * covariance[i, j] * (1.0 if i == j else 2.0)
    return np.sqrt(max(total, 0.0) / number[which]) if total == total else np.nan


@njit(cache=True, nogil=True)
def _gather(begin, end, k, given, reference, variance, design, fold, columns, room, rows, place):  # type: ignore[no-untyped-def]
    """Rows of a frame that the fit without fold `k` is made from, into the buffers; their number."""
    mag, sigma, star, eligible = given
    one = min(k, reference.shape[0] - 1)
    m = 0
    for row in range(begin, end):
        i = star[row]
        if not eligible[row] or fold[i] == k:
            continue
        y, square = mag[row] - reference[one, i], sigma[row] ** 2 + variance[one, i]
        if not (np.isfinite(y) and np.isfinite(square) and square > 0) or not _finite(design[row]):
            continue
        rows[_Y, m], rows[_SQUARE, m], place[m] = y, square, row
        for j in range(columns.size):
            room[j, m] = design[row, columns[j]]
        m += 1
    return m


@njit(cache=True, nogil=True, forceinline=True)
def _fit_one(x, rows, p, n, choice):  # type: ignore[no-untyped-def]
    """Coefficients, their covariance and the floor of one fit; its weights (1/mag^2, 0 where rejected) stay in the buffer."""
    clip, fixed_floor, iterations = choice
    solution, previous, normal, right = np.zeros(p), np.zeros(p), np.empty((p, p)), np.empty(p)
    if n <= p:
        return _no_fit(rows, solution, normal, n)
    floor = _start(rows, n, fixed_floor)
    spread = np.sqrt(n / (n - p))
    guess, scale = 0.0, 1.0
    for step in range(iterations):
        _deviations(rows, n, floor * floor)
        middle, guess = _median_root(rows[_DEVIATION], n, guess, rows[_WORK])
        scale = max(MAD_TO_SIGMA * middle * spread, 1e-9)
        _weigh(rows, n, scale if step < HUBER_STEPS else scale * clip, step < HUBER_STEPS)
        _normal(x, rows, p, n, normal, right)
        inverse = inverse_of(normal)
        change = 0.0
        for i in range(p):
            previous[i], solution[i] = solution[i], _product(inverse[i], right)
            change = max(change, abs(solution[i] - previous[i]))
        _residuals(x, rows, p, n, solution)
        if fixed_floor < 0:
            floor = _floor(rows, n, p)
        if step > HUBER_STEPS and change < 1e-7:
            break
    return solution, _covariance(x, rows, p, n, normal, right, clip * scale), floor


@njit(cache=True, nogil=True)
def _no_fit(rows, solution, covariance, n):  # type: ignore[no-untyped-def]
    for i in range(n):
        rows[_WEIGHT, i] = 0.0
    for i in range(solution.size):
        solution[i] = np.nan
        for j in range(solution.size):
            covariance[i, j] = np.nan
    return solution, covariance, np.nan


@njit(cache=True, nogil=True)
def _start(rows, n, fixed_floor):  # type: ignore[no-untyped-def]
    """The median: a start no single star can spoil; the slopes follow within the Huber steps. Returns the first floor."""
    work = rows[_WORK]
    for i in range(n):
        work[i] = rows[_Y, i]
    low, high = _middle(work, n)
    centre = 0.5 * (low + high)
    for i in range(n):
        rows[_RESIDUAL, i] = rows[_Y, i] - centre
        work[i] = abs(rows[_RESIDUAL, i])
    if fixed_floor >= 0:
        return fixed_floor
    low, high = _middle(work, n)
    return MAD_TO_SIGMA * 0.5 * (low + high)


@njit(cache=True, nogil=True, fastmath=_SUMS, forceinline=True)
def _deviations(rows, n, floor2):  # type: ignore[no-untyped-def]
    """Inverse variances with the floor, and squared deviations."""
    square, inverse, deviation, residual = rows[_SQUARE], rows[_INVERSE], rows[_DEVIATION], rows[_RESIDUAL]
    for i in range(n):
        inverse[i] = 1.0 / (square[i] + floor2)
        deviation[i] = residual[i] * residual[i] * inverse[i]


@njit(cache=True, nogil=True)
def _median_root(square, n, guess, work):  # type: ignore[no-untyped-def]
    """Median of the roots, and the upper middle one of the squares: it is looked for near `guess`, its last value, first."""
    low, high = guess * (1 - NEAR) ** 2, guess * (1 + NEAR) ** 2
    below, inside = 0, 0
    for i in range(n):
        value = square[i]
        work[inside] = value
        below += value < low
        inside += (value >= low) & (value <= high)
    upper = n // 2 - below
    if upper >= 1 and upper < inside:
        a, b = _around(work, inside, upper)
        if n % 2:
            a = b
    else:
        for i in range(n):
            work[i] = square[i]
        a, b = _middle(work, n)
    return 0.5 * (np.sqrt(a) + np.sqrt(b)), b


@njit(cache=True, nogil=True)
def _middle(values, n):  # type: ignore[no-untyped-def]
    """The two middle ones of `n` values, the same twice where the number is odd; the values are moved about."""
    if n == 1:
        return values[0], values[0]
    a, b = _around(values, n, n // 2)
    return (b, b) if n % 2 else (a, b)


@njit(cache=True, nogil=True)
def _around(values, n, rank):  # type: ignore[no-untyped-def]
    """The values of rank `rank` - 1 and `rank`, at least 1, by Hoare's selection."""
    low, high = 0, n - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    below = values[0]
    for i in range(1, rank):
        below = max(below, values[i])
    return below, values[rank]


@njit(cache=True, nogil=True, fastmath=_SUMS, forceinline=True)
def _weigh(rows, n, scale, huber):  # type: ignore[no-untyped-def]
    """Robust weights over the variance: Huber's, or Tukey's that are zero from `scale` on."""
    weight, inverse, deviation = rows[_WEIGHT], rows[_INVERSE], rows[_DEVIATION]
    per = 1.0 / (scale * scale)
    if huber:
        for i in range(n):
            weight[i] = min(1.0, HUBER_TUNING / max(np.sqrt(deviation[i] * per), 1e-9)) * inverse[i]
    else:
        for i in range(n):
            left = max(1.0 - deviation[i] * per, 0.0)
            weight[i] = left * left * inverse[i]


@njit(cache=True, nogil=True, fastmath=_SUMS, forceinline=True)
def _normal(x, rows, p, n, normal, right):  # type: ignore[no-untyped-def]
    """Weighted normal equations, lower triangle, block by block."""
    for j in range(p):
        right[j] = 0.0
        for k in range(p):
            normal[j, k] = 0.0
    weighted = np.empty(BLOCK)
    for begin in range(0, n, BLOCK):
        size = min(BLOCK, n - begin)
        y, weight = rows[_Y, begin : begin + size], rows[_WEIGHT, begin : begin + size]
        for j in range(p):
            one = x[j, begin : begin + size]
            total = 0.0
            for i in range(size):
                weighted[i] = weight[i] * one[i]
                total += weighted[i] * y[i]
            right[j] += total
            for k in range(j + 1):
                other = x[k, begin : begin + size]
                total = 0.0
                for i in range(size):
                    total += weighted[i] * other[i]
                normal[j, k] += total


@njit(cache=True, nogil=True, fastmath=_SUMS, forceinline=True)
def _residuals(x, rows, p, n, solution):  # type: ignore[no-untyped-def]
    for begin in range(0, n, BLOCK):
        size = min(BLOCK, n - begin)
        y, residual = rows[_Y, begin : begin + size], rows[_RESIDUAL, begin : begin + size]
        for i in range(size):
            residual[i] = y[i]
        for j in range(p):
            one, by = x[j, begin : begin + size], solution[j]
            for i in range(size):
                residual[i] -= by * one[i]


@njit(cache=True, nogil=True, fastmath=_SUMS, forceinline=True)
def _floor(rows, n, p):  # type: ignore[no-untyped-def]
    """Scatter beyond the errors: moment estimate with the fit's own weights, corrected for `p` fitted terms."""
    weight, inverse, residual, square = rows[_WEIGHT], rows[_INVERSE], rows[_RESIDUAL], rows[_SQUARE]
    number = 0
    for i in range(n):
        number += 1 if weight[i] > 0 else 0
    number = max(number, p + 1)
    freed = number / (number - p)
    norm, excess = 0.0, 0.0
    for i in range(n):
        gain = weight[i] * inverse[i]
        norm += gain
        excess += gain * (residual[i] * residual[i] * freed - square[i])
    return np.sqrt(max(excess / norm, 0.0)) if norm > 0 else 0.0


@njit(cache=True, nogil=True, fastmath=_SUMS, forceinline=True)
def _covariance(x, rows, p, n, normal, right, limit):  # type: ignore[no-untyped-def]
    """Covariance of a biweight fit (Huber 1981, Robust Statistics, eq. 7.6.10), with each residual enlarged by its star's leverage."""
    weight, spare, residual = rows[_WEIGHT], rows[_MORE], rows[_RESIDUAL]
    for i in range(n):
        spare[i] = weight[i]
        weight[i] = rows[_INVERSE, i]
    _normal(x, rows, p, n, normal, right)
    inverse = inverse_of(normal)
    for i in range(n):
        weight[i] = spare[i]
        spare[i] = 0.0
    for j in range(p):
        for k in range(p):
            by = inverse[j, k]
            for i in range(n):
                spare[i] += by * x[j, i] * x[k, i]
    square, slope = 0.0, 0.0
    for i in range(n):
        deviation2 = residual[i] * residual[i] * rows[_INVERSE, i]
        t = deviation2 / (limit * limit)
        if t < 1:
            leverage = min(rows[_INVERSE, i] * spare[i], 0.9)
            square += deviation2 * ((1 - t) ** 2 / (1 - leverage)) ** 2
            slope += (1 - t) * (1 - 5 * t)
    slope = max(slope / n, 0.1)
    factor = max(square / n, 1e-18) / slope**2
    for j in range(p):
        for k in range(p):
            inverse[j, k] *= factor
    return inverse


@njit(cache=True, nogil=True)
def inverse_of(normal):  # type: ignore[no-untyped-def]
    """Inverse of normal equations.

    Parameters
    ----------
    normal : float64, shape (p, p)
        Symmetric, positive; the lower triangle is read.

    Returns
    -------
    float64, shape (p, p)
        Zero in the rows and columns of terms that depend on earlier ones.
    """
    p = normal.shape[0]
    turned, out = _inverted(_cholesky(normal)), np.zeros((p, p))
    for i in range(p):
        for j in range(p):
            for k in range(max(i, j), p):
                out[i, j] += turned[k, i] * turned[k, j]
    return out


@njit(cache=True, nogil=True)
def _cholesky(normal):  # type: ignore[no-untyped-def]
    """Lower triangle, with a zero column for one that depends on earlier ones."""
    p = normal.shape[0]
    lower = np.zeros((p, p))
    for j in range(p):
        for i in range(j, p):
            total = normal[i, j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            if i > j:
                lower[i, j] = total / lower[j, j]
            elif total > 1e-10 * normal[j, j]:
                lower[j, j] = np.sqrt(total)
            else:
                break
    return lower


@njit(cache=True, nogil=True)
def _inverted(lower):  # type: ignore[no-untyped-def]
    """Inverse of a lower triangle, with zero rows and columns for zero pivots."""
    p = lower.shape[0]
    out = np.zeros((p, p))
    for j in range(p):
        for i in range(j, p):
            if lower[j, j] == 0 or lower[i, i] == 0:
                continue
            total = 1.0 if i == j else 0.0
            for k in range(j, i):
                total -= lower[i, k] * out[k, j]
            out[i, j] = total / lower[i, i]
    return out
