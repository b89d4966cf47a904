"""Compiled sweep of the faces of a simple central arrangement, each visited once.

In the chart ``{w : f.w = 1}`` of an m-dimensional space the hyperplanes cut out polyhedra, and
every face that is bounded below along a generic height h has one lowest vertex. That vertex lies
on m - 1 hyperplanes K, whose normals and f carry the height,

    h = c f + sum_{k in K} s_k A_k,

and the faces with this lowest vertex are those on the side ``sign(s_k)`` of, or on, each of K:
``2^(m-1)`` of them, one a cell. (These s_k are the reduced costs of the linear program
``min h.w``.) The vertices on a line, the plane orthogonal to m - 2 hyperplanes met with the chart,
are sorted; from one to the next a single code changes, and the field D by one term.

See `flowsim.alignment.arrangement` for the charts that cover the sphere. All helpers live in
this file: Numba's cache does not see changes in others.
"""

from __future__ import annotations

import numpy as np
from numba import njit

EPS = np.finfo(np.float64).eps

#: What is done at each vertex.
COUNT, CELLS, EXTREMAL, FARTHEST = 0, 1, 2, 3
#: Outcomes: all went well; hyperplanes meet that should not; the height was unlucky.
DONE, DEGENERATE, UNLUCKY = 0, 1, 2
#: Outcomes of a face's test.
_ZERO, _REJECTED = 0, 2


@njit(cache=True, nogil=True)
def _dot(a, b):  # pragma: no cover - compiled
    s = 0.0
    for u in range(a.shape[0]):
        s += a[u] * b[u]
    return s


@njit(cache=True, nogil=True)
def _set(out, q, v):  # pragma: no cover - compiled
    # A loop: broadcasting assignments take several times longer to compile.
    for u in range(v.shape[0]):
        out[u] = q * v[u]


@njit(cache=True, nogil=True)
def _add(D, q, v):  # pragma: no cover - compiled
    for u in range(D.shape[0]):
        D[u] += q * v[u]


@njit(cache=True, nogil=True)
def _orthogonalise(v, Q, k):  # pragma: no cover - compiled
    """Remove from v its components along k orthonormal rows, twice; return its norm."""
    for _ in range(2):
        for j in range(k):
            c = _dot(v, Q[j])
            _add(v, -c, Q[j])
    return np.sqrt(_dot(v, v))


@njit(cache=True, nogil=True)
def _frame(A, line, f, Q, R):  # pragma: no cover - compiled
    """Fill Q with an orthonormal basis: of the line's normals, then f's direction, then the rest.

    Returns the smallest pivot, relative to the vectors; 0 if it is rounding.
    """
    k, m = line.shape[0], A.shape[1]
    smallest = 1.0
    v = np.empty(m)
    for j in range(k + 1):
        _set(v, 1.0, A[line[j]] if j < k else f)
        size = np.sqrt(_dot(v, v))
        rest = _orthogonalise(v, Q, j)
        if not rest > 1e-11 * size:
            return 0.0
        smallest = min(smallest, rest / size)
        _set(Q[j], 1.0 / rest, v)
    best = 0.0
    for u in range(m):
        for i in range(m):
            v[i] = 1.0 if i == u else 0.0
        rest = _orthogonalise(v, Q, k + 1)
        if rest > best:
            best = rest
            _set(Q[k + 1], 1.0 / rest, v)
    for i in range(k):
        for j in range(k):
            R[i, j] = _dot(Q[i], A[line[j]])
    return smallest


@njit(cache=True, nogil=True)
def _coefficients(Q, R, k, x, out):  # pragma: no cover - compiled
    """Express x, up to the plane orthogonal to them, in the line's k normals."""
    for i in range(k - 1, -1, -1):
        s = _dot(Q[i], x)
        for j in range(i + 1, k):
            s -= R[i, j] * out[j]
        out[i] = s / R[i, i]


@njit(cache=True, nogil=True)
def _order(A, line, Q, pivot, t, slope, order):  # pragma: no cover - compiled
    """Sort the vertices ``Q_k + t Q_{k+1}`` on a line; return their number, -1 if undecided."""
    k = line.shape[0]
    unsure = np.empty(A.shape[0])
    count = 0
    for g in range(A.shape[0]):
        on_line = False
        for j in range(k):
            on_line = on_line or line[j] == g
        if on_line:
            continue
        alpha, beta = _dot(A[g], Q[k]), _dot(A[g], Q[k + 1])
        size = np.sqrt(_dot(A[g], A[g]))
        rest = np.hypot(alpha, beta)
        if not rest > 1e-11 * size or not abs(beta) > 32 * EPS * size / pivot:
            return -1
        t[g], slope[g] = -alpha / beta, beta
        unsure[g] = 32 * EPS * size / (rest * pivot)  # error of the vertex as an angle
        order[count] = g
        count += 1
    keys = np.empty(count)
    for i in range(count):
        keys[i] = t[order[i]]
    unsorted = order[:count].copy()
    ranks = np.argsort(keys)
    for i in range(count):
        order[i] = unsorted[ranks[i]]
    for i in range(1, count):
        g, b = order[i - 1], order[i]
        # The sine of the angle between them against its error.
        if t[b] - t[g] <= (unsure[g] + unsure[b]) * np.hypot(1.0, t[g]) * np.hypot(1.0, t[b]):
            return -1
    return count


@njit(cache=True, nogil=True)
def _test(D, free, code_free, n_free, on, n_on, sign, code, N, plus, minus, tol, Q, work):
    # pragma: no cover - compiled
    """Project D on the hyperplanes `on` and compare it with the face's code.

    Returns +1 or -1 if ``+D`` or ``-D`` lies in the closed face and the multipliers in their
    intervals, `_ZERO` if D vanishes, else `_REJECTED`; D is projected in place.
    """
    r = D.shape[0]
    if n_on >= r:
        return _REJECTED
    pivot = 1.0
    for j in range(n_on):
        _set(Q[j], 1.0, N[on[j]])
        rest = _orthogonalise(Q[j], Q, j)
        pivot = min(pivot, rest)
        _set(Q[j], 1.0 / rest, Q[j])
    for j in range(n_on):
        work[j] = _dot(Q[j], D)
    for i in range(n_on - 1, -1, -1):
        s = -work[i]
        for j in range(i + 1, n_on):
            s -= _dot(Q[i], N[on[j]]) * work[n_on + j]
        zeta = s / _dot(Q[i], N[on[i]])
        work[n_on + i] = zeta
        low, high = min(plus[on[i]], minus[on[i]]), max(plus[on[i]], minus[on[i]])
        if zeta < low - tol / pivot or zeta > high + tol / pivot:
            return _REJECTED
    _orthogonalise(D, Q, n_on)
    tau = 0
    for i in range(n_free + N.shape[0]):
        g = free[i] if i < n_free else i - n_free
        side = code_free[i] if i < n_free else code[g]
        if side == 0:
            continue
        s = _dot(N[g], D)
        if abs(s) <= tol:
            continue
        here = 1 if (s > 0) == (side * sign > 0) else -1
        if tau == 0:
            tau = here
        elif tau != here:
            return _REJECTED
    return tau


@njit(cache=True, nogil=True)
def _visit_faces(
    vertex, sides, code, base, total, zeros, N, plus, minus, tol, count, codes, points
):  # pragma: no cover - compiled
    """Propose critical directions among the faces with this lowest vertex and their negatives.

    A proposal's row of `points` is the direction, or zero for a cell without a field.
    """
    k, r = vertex.shape[0], N.shape[1]
    free, side, on = np.empty(k, np.int64), np.empty(k, np.int8), np.empty(k + len(zeros), np.int64)
    Q, work, D = np.empty((r, r)), np.empty(2 * (k + len(zeros)) + 1), np.empty(r)
    for sign in (1, -1):
        for mask in range(1 << k):
            n_free, n_on = 0, len(zeros)
            _set(on, 1, zeros)
            _set(D, sign, base)
            if sign < 0:
                _add(D, 1.0, total)
                for j in range(k):
                    _add(D, -plus[vertex[j]] - minus[vertex[j]], N[vertex[j]])
            for j in range(k):
                g = vertex[j]
                if mask >> j & 1:
                    free[n_free], side[n_free] = g, sides[j]
                    n_free += 1
                    _add(D, plus[g] if sides[j] * sign > 0 else minus[g], N[g])
                else:
                    on[n_on] = g
                    n_on += 1
            tau = _test(D, free, side, n_free, on, n_on, sign, code, N, plus, minus, tol, Q, work)
            if tau == _REJECTED or (tau == _ZERO and n_on > 0):
                continue
            if count < codes.shape[0]:
                _set(codes[count], sign, code)
                for j in range(n_free):
                    codes[count, free[j]] = sign * side[j]
                _set(points[count], tau, D)
            count += 1
    return count


@njit(cache=True, nogil=True)
def _visit_cells(
    mode, vertex, sides, code, base, total, N, plus, minus, target, count, codes, points
):  # pragma: no cover - compiled
    """Write, or only count, the cell with this lowest vertex and its negative.

    Or keep in ``points[0]`` the field farthest from `target`.
    """
    for sign in (1, -1):
        if mode == CELLS and count < codes.shape[0]:
            _set(codes[count], sign, code)
            for j in range(vertex.shape[0]):
                codes[count, vertex[j]] = sign * sides[j]
        count += 1
        if mode == FARTHEST:
            far, old = 0.0, 0.0
            for u in range(N.shape[1]):
                D = base[u] if sign > 0 else total[u] - base[u]
                for j in range(vertex.shape[0]):
                    g = vertex[j]
                    # On the negative side total - base still holds q+ + q-: one is taken off.
                    q = plus[g] if sides[j] > 0 else minus[g]
                    D += (q if sign > 0 else -q) * N[g, u]
                points[1, u] = D
                far += (D - target[u]) ** 2
                old += (points[0, u] - target[u]) ** 2
            if far > old:
                _set(points[0], 1.0, points[1])
    return count


@njit(cache=True, nogil=True)
def _vertex_sides(A, line, g, t, beta, f, h, Q, R, heights, sides, work):
    # pragma: no cover - compiled
    """Fill in the sides on which the height rises from the vertex; False if one is undecided."""
    k = line.shape[0]
    rise = _dot(h, Q[k + 1]) / beta
    c = (_dot(h, Q[k]) + t * _dot(h, Q[k + 1])) / _dot(f, Q[k])
    _coefficients(Q, R, k, A[g], work)
    for j in range(k):
        s = heights[0, j] - c * heights[1, j] - rise * work[j]
        size = abs(heights[0, j]) + abs(c * heights[1, j]) + abs(rise * work[j])
        if not abs(s) > 1e-13 * size:
            return False
        sides[j] = 1 if s > 0 else -1
    sides[k] = 1 if rise > 0 else -1
    return rise != 0.0


@njit(cache=True, nogil=True)
def _begin(line, active, slope, order, vertices, chart, N, plus, minus, vertex, code, base):
    # pragma: no cover - compiled
    """Fill in the codes and the field before the first vertex of a line."""
    _set(base, plus[chart], N[chart])
    for j in range(line.shape[0]):
        vertex[j] = active[line[j]]
        code[vertex[j]] = 0
    for i in range(vertices):
        g = active[order[i]]
        rises = slope[order[i]] > 0
        code[g] = -1 if rises else 1
        _add(base, minus[g] if rises else plus[g], N[g])


@njit(cache=True, nogil=True)
def sweep_lines(
    mode, lines, active, A, f, h, chart, zeros, N, plus, minus, target, tol, codes, points
):  # pragma: no cover - compiled
    """Sweep the lines of one chart; return (status, count).

    `lines` (c, m - 2) are rows of `A` (G', m), the restricted normals of the hyperplanes `active`;
    `f` and `h` (m,) the chart and the height; `chart` the hyperplane on whose positive side all
    faces lie, `zeros` those that contain them; `N` (G, r) all normals, which contribute `plus` and
    `minus` (G,) to D on their sides. `EXTREMAL` takes velocities below `tol` as zero, `FARTHEST`
    measures from `target` (r,). Results go to `codes` and `points`, (capacity, G) and (capacity,
    r); those beyond the capacity are counted only.
    """
    m, r, size = A.shape[1], N.shape[1], N.shape[0]
    k = m - 2
    Q, R = np.empty((m, m)), np.empty((m, m))
    t, slope, order = np.empty(len(A)), np.empty(len(A)), np.empty(len(A), np.int64)
    heights, work = np.empty((2, m)), np.empty(m)
    vertex, sides = np.empty(m - 1, np.int64), np.empty(m - 1, np.int8)
    total, base = np.zeros(r), np.empty(r)
    code = np.zeros(size, np.int8)
    code[chart] = 1
    for g in active:
        _add(total, plus[g] + minus[g], N[g])
    _add(total, plus[chart] + minus[chart], N[chart])
    count = 0
    for row in range(lines.shape[0]):
        line = lines[row]
        pivot = _frame(A, line, f, Q, R)
        if pivot == 0.0:
            return DEGENERATE, count
        vertices = _order(A, line, Q, pivot, t, slope, order)
        if vertices < 0:
            return DEGENERATE, count
        _coefficients(Q, R, k, h, heights[0])
        _coefficients(Q, R, k, f, heights[1])
        _begin(line, active, slope, order, vertices, chart, N, plus, minus, vertex, code, base)
        for i in range(vertices):
            at = order[i]
            g = active[at]
            before, after = (minus[g], plus[g]) if slope[at] > 0 else (plus[g], minus[g])
            _add(base, -before, N[g])
            if k == 0 or at > line[k - 1]:
                vertex[k] = g
                if not _vertex_sides(
                    A, line, at, t[at], slope[at], f, h, Q, R, heights, sides, work
                ):
                    return UNLUCKY, count
                code[g] = 0
                if mode == EXTREMAL:
                    count = _visit_faces(
                        vertex, sides, code, base, total, zeros,
                        N, plus, minus, tol, count, codes, points,
                    )  # fmt: skip
                else:
                    count = _visit_cells(
                        mode, vertex, sides, code, base, total,
                        N, plus, minus, target, count, codes, points,
                    )  # fmt: skip
            code[g] = 1 if slope[at] > 0 else -1
            _add(base, after, N[g])
    return DONE, count


@njit(cache=True, nogil=True)
def visit_point(
    mode, active, A, f, chart, zeros, N, plus, minus, target, tol, codes, points
):  # pragma: no cover - compiled
    """Visit the one face of a chart of dimension m = 1; arguments as for `sweep_lines`."""
    code = np.zeros(N.shape[0], np.int8)
    code[chart] = 1
    base, total = np.empty(N.shape[1]), np.empty(N.shape[1])
    _set(base, plus[chart], N[chart])
    _set(total, plus[chart] + minus[chart], N[chart])
    for i in range(len(active)):
        g = active[i]
        s = A[i, 0] * f[0]
        if not abs(s) > 1e-11 * abs(f[0]) * np.sqrt(_dot(N[g], N[g])):
            return DEGENERATE, 0
        code[g] = 1 if s > 0 else -1
        _add(base, plus[g] if s > 0 else minus[g], N[g])
        _add(total, plus[g] + minus[g], N[g])
    vertex, sides = np.empty(0, np.int64), np.empty(0, np.int8)
    count = np.int64(0)  # for the literal 0 Numba would compile the visits once more
    if mode == EXTREMAL:
        count = _visit_faces(
            vertex, sides, code, base, total, zeros, N, plus, minus, tol, count, codes, points
        )
    else:
        count = _visit_cells(
            mode, vertex, sides, code, base, total, N, plus, minus, target, count, codes, points
        )
    return DONE, count
