"""A basis of V, the range of the core's features, in which everything is small and in balls."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from flint import arb, arb_mat, fmpz_mat

from flowsim.certificates.balls import (
    NotProvedError,
    arb_column,
    eigenvalue_bounds,
    floats,
    matrix,
    norm,
    upper,
)
from flowsim.certificates.claim import Claim
from flowsim.certificates.span import Span


@dataclass(frozen=True, eq=False)
class Basis:
    """Nearly orthonormal columns Q (n, p) whose span is V exactly; None for V = Rⁿ, Q = 1."""

    n: int
    Q: arb_mat | None
    span: Span | None

    @classmethod
    def of(cls, claim: Claim) -> Basis:
        """Return a basis of what the claim's core fits, and check that others fit no more.

        Raises
        ------
        NotProvedError
            If a carried neuron, or an open hyperplane, does not lie in V.
        """
        data = claim.data
        if claim.everything:
            return cls(data.n, None, None)
        core = {cell.features for cell in claim.cells("core")}
        span = Span.of([data.columns(code, slides) for code, slides in sorted(core)])
        if span.size == 0:
            raise NotProvedError("the core fits nothing")
        carried = {cell.features for cell in claim.cells("carried")} - core
        for code, slides in sorted(carried):
            if not span.contains(data.columns(code, slides)):
                raise NotProvedError("a carried neuron can fit what the core cannot")
        loose = {g for cell in claim.cells("core", "carried") for g in cell.open}
        for g in sorted(loose):
            if not span.contains(data.kink_column(g)):
                raise NotProvedError(
                    f"the core cannot follow a crossing of sample {data.leader[g]}"
                )
        return cls(data.n, _orthonormal(span.basis), span)

    @classmethod
    def empty(cls, n: int) -> Basis:
        """Return the basis of V = 0."""
        return cls(n, arb_mat(n, 0), Span.empty(n))

    @property
    def size(self) -> int:
        """Dimension of V."""
        return self.n if self.Q is None else self.Q.ncols()

    @cached_property
    def _gram_inverse(self) -> arb_mat:
        assert self.Q is not None
        return (self._transposed * self.Q).inv()

    @cached_property
    def _transposed(self) -> arb_mat:
        assert self.Q is not None
        return self.Q.transpose()

    @cached_property
    def gram_top(self) -> arb:
        """Upper bound of ``|v|² / |c|²`` for ``v = Qc``."""
        if self.Q is None:
            return arb(1)
        return eigenvalue_bounds(self.Q.transpose() * self.Q)[1]

    def coordinates(self, columns: arb_mat) -> arb_mat:
        """Return ``Qᵀ`` times columns (n, k)."""
        return columns if self.Q is None else self._transposed * columns

    def length(self, row: list[arb]) -> arb:
        """Return ``|P_V row|``, or an upper bound."""
        if self.Q is None:
            return norm(row)
        c = self.coordinates(arb_column(row))
        return upper((c.transpose() * self._gram_inverse * c)[0, 0].max(arb(0))).sqrt()

    def split(self, r: list[arb]) -> tuple[list[arb], list[arb]]:
        """Return the parts of a vector in V and orthogonal to it."""
        if self.Q is None:
            return r, [arb(0)] * self.n
        part = (self.Q * (self._gram_inverse * self.coordinates(arb_column(r)))).entries()
        return part, [x - v for x, v in zip(r, part, strict=True)]


def _orthonormal(basis: fmpz_mat) -> arb_mat:
    """Return nearly orthonormal columns of the same span: the basis times an invertible matrix."""
    C = arb_mat(basis)
    sizes = [float(sum((x * x for x in C.transpose().tolist()[j]), arb(0)).sqrt().log().mid())
             for j in range(C.ncols())]  # fmt: skip
    # Powers of two bring columns of integers of any size into the range of floats.
    unit = arb_mat(C.ncols(), C.ncols())
    for j, size in enumerate(sizes):
        unit[j, j] = arb(2) ** -round(size / np.log(2.0))
    C = C * unit
    for _ in range(2):
        R = np.linalg.qr(floats(C), mode="r")
        try:
            inverse = np.linalg.inv(R)
        except np.linalg.LinAlgError:
            raise NotProvedError("the core's features are dependent to rounding") from None
        C = C * matrix(inverse.tolist())
    return C
