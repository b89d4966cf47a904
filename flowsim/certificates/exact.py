"""The limit in exact arithmetic: its loss and its pieces, for data of few bits."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from flint import fmpq_mat, fmpz_mat

from flowsim.certificates.claim import Claim
from flowsim.certificates.planes import Code, Data, rational_column
from flowsim.certificates.span import Span

#: Beyond so many dimensions, or bits of an entry, fractions are too long to be of use.
LARGEST, BITS = 40, 48
#: Bits of a result that is kept as a fraction.
DIGITS = 2000


@dataclass(frozen=True, eq=False)
class Piece:
    """What the neurons of a cell do in the limit: ``h(x) = beta . x`` together, where they are on.

    `pattern` holds the activation code of each sample: -1 off, 0 slide, 1 on.
    """

    pattern: tuple[int, ...]
    beta: tuple[Fraction, ...] | tuple[float, ...]


def is_short(data: Data) -> bool:
    """Whether fractions made of the data are short."""
    numbers = [x for row in data.X for x in row] + [*data.y, data.slope]
    return all(
        x.numerator.bit_length() <= BITS and x.denominator.bit_length() <= BITS for x in numbers
    )


def limit_loss(claim: Claim, span: Span | None) -> Fraction | None:
    """Return ``ω|r*|²/2`` as a fraction, or None where it would be too long."""
    if span is None:
        return Fraction(0)
    if span.size > LARGEST or not is_short(claim.data):
        return None
    C, y = fmpq_mat(span.basis), rational_column(claim.data.y)
    r = y - C * _weights(C, y) if span.size else y
    square = (r.transpose() * r)[0, 0]
    found = claim.data.weight / 2 * Fraction(int(square.p), int(square.q))
    return found if _readable(found) else None


def _readable(x: Fraction) -> bool:
    """Whether a fraction has few enough digits to be of use."""
    return max(x.numerator.bit_length(), x.denominator.bit_length()) <= DIGITS


def _weights(C: fmpq_mat, y: fmpq_mat) -> fmpq_mat:
    return (C.transpose() * C).solve(C.transpose() * y)


def pieces(claim: Claim, span: Span | None) -> tuple[Piece, ...]:
    """Return the linear maps of the core's cells in the limit, where they are unique.

    They are if the cells' features are independent, no other cell has a share and no neuron may
    change its cell: fractions for data of few bits, else floats.
    """
    data = claim.data
    if span is None or _is_shared(claim):
        return ()
    cells = sorted({cell.features for cell in claim.cells("core")})
    blocks = [data.columns(code, slides) for code, slides in cells]
    if sum(block.ncols() for block in blocks) != span.size:
        return ()
    exact = span.size <= LARGEST and is_short(data)
    weights = _cell_weights(blocks, data, exact=exact)
    out, at = [], 0
    for (code, slides), block in zip(cells, blocks, strict=True):
        mine = weights[at : at + block.ncols()]
        at += block.ncols()
        out.append(Piece(_pattern(data, code), _beta(data, code, slides, mine, exact=exact)))
    return tuple(out)


def _is_shared(claim: Claim) -> bool:
    """Whether neurons of other cells than the core's may have a share in the limit."""
    core = {cell.features for cell in claim.cells("core")}
    return any(cell.open or cell.features not in core for cell in claim.cells("core", "carried"))


def _cell_weights(blocks: list[fmpz_mat], data: Data, *, exact: bool) -> list[Fraction]:
    """Return the least-squares weights of all columns, in exact arithmetic or rounded."""
    n = data.n
    width = sum(block.ncols() for block in blocks)
    table = [[block[i, j] for block in blocks for j in range(block.ncols())] for i in range(n)]
    if exact:
        C = fmpq_mat(fmpz_mat(n, width, [x for row in table for x in row]))
        found = _weights(C, rational_column(data.y)).entries()
        return [Fraction(int(x.p), int(x.q)) for x in found]
    from flint import arb_mat

    from flowsim.certificates.balls import arb_column, ball

    B = arb_mat(fmpz_mat(n, width, [x for row in table for x in row]))
    right = B.transpose() * arb_column([ball(v) for v in data.y])
    solved = (B.transpose() * B).solve(right).entries()
    return [Fraction(float(x.mid())) for x in solved]


def _beta(
    data: Data, code: Code, slides: tuple[int, ...], weights: list[Fraction], *, exact: bool
) -> tuple[Fraction, ...] | tuple[float, ...]:
    """Return the vector v that the weights of ``diag(c) X v``'s columns stand for."""
    free, unit = data.free(slides), data.unit
    beta = tuple(
        unit * sum((Fraction(int(free[i, j])) * w for j, w in enumerate(weights)), Fraction(0))
        for i in range(data.d)
    )
    if exact and all(map(_readable, beta)):
        return beta
    return tuple(float(x) for x in beta)


def _pattern(data: Data, code: Code) -> tuple[int, ...]:
    signs = [1 if s > 0 else -1 for s in data.scale]
    return tuple(code[g] * sign for g, sign in zip(data.plane, signs, strict=True))
