"""The rigorous engine as an option of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2
from typing import TYPE_CHECKING

from flowsim._arguments import flag, whole

if TYPE_CHECKING:
    from flowsim.engines.validated.result import EnclosedState

#: Bits that a rigorous run begins with, and that it may go up to.
PRECISION, MAX_PRECISION = 192, 1536
#: Digits of a run without proofs.
DIGITS = 50
#: Bits beyond its digits: errors grow with the flow's own sensitivity.
GUARD_BITS = 64


@dataclass(frozen=True)
class Validated:
    """Follow the flow in ball arithmetic: everything about it is proved, or to many digits.

    For two-layer (leaky) ReLU networks, up to `t1` or, by default, until a certificate proves for
    every state in the enclosure where the flow goes; see docs/validated.md.
    `Solution.enclosure` has the enclosures, the rest of the solution is their midpoints.

    Parameters
    ----------
    precision : int
        Bits of the arithmetic to begin with; doubled, from the start, where something cannot be
        proved.
    max_precision : int, optional
        Bits that are not exceeded; by default 1536, or `precision` if that is more.
    order : int, optional
        Order of the Taylor polynomials; by default a third of the precision.
    rigorous : bool
        Without, the same series are computed with `digits` and some more, and errors are not
        bounded: a reference for any small system, without the limits on its size.
    digits : int, optional
        Digits of a run that is not rigorous; 50 by default.
    accept : callable, optional
        Of an `EnclosedState`: whether to end there, instead of by a certificate; asked whenever
        the time has grown by a tenth.
    """

    precision: int = PRECISION
    max_precision: int | None = None
    order: int | None = None
    rigorous: bool = True
    digits: int | None = None
    accept: Callable[[EnclosedState], bool] | None = None

    def __post_init__(self) -> None:
        whole("precision", self.precision, 64)
        if self.max_precision is not None:
            whole("max_precision", self.max_precision, self.precision)
        if self.order is not None:
            whole("order", self.order, 4)
        if self.digits is not None:
            if flag("rigorous", self.rigorous):
                raise ValueError(
                    "Argument `digits` must be None for a rigorous run, whose enclosures tell how "
                    f"many digits are right, but is {self.digits!r}."
                )
            whole("digits", self.digits, 1)
        if not flag("rigorous", self.rigorous) and self.precision != PRECISION:
            raise ValueError(
                "Argument `precision` must be left out without proofs, where `digits` says it, "
                f"but is {self.precision}."
            )
        if self.accept is not None and not callable(self.accept):
            raise TypeError(f"Argument `accept` must be a function, but is {self.accept!r}.")

    @property
    def most_bits(self) -> int:
        """Bits that a run goes up to."""
        return max(MAX_PRECISION, self.bits) if self.max_precision is None else self.max_precision

    @property
    def bits(self) -> int:
        """Bits that a run begins with."""
        if self.rigorous:
            return self.precision
        return ceil((self.digits or DIGITS) * log2(10)) + GUARD_BITS
