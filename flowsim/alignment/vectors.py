"""Extremal vectors, one and all of a data set; `flowsim.alignment.extremal` defines them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np

from flowsim.alignment.roles import Role

if TYPE_CHECKING:
    from flowsim.alignment.exact import ExactExtremal


@dataclass(frozen=True, eq=False)
class ExtremalVector:
    """A vector D that is parallel to a direction w at which neurons may have it as their field.

    Attributes
    ----------
    D : (d,)
        The extremal vector, in units of ``X y``.
    direction : (d,)
        The unit vector ``w = +-D / |D|``.
    norm : float
        ``|D|``, the rate of growth ``1/t`` of aligned neurons.
    G : float
        ``w . D = +-|D|``.
    pattern : (n,) int8
        The activation code of each sample at w: 1 on, 0 sliding, -1 off.
    code : (G,) int8
        The side of each hyperplane `Dataset.normals` that w is on.
    multipliers : (n,)
        The coefficient eta_k in [0, 1] of each sliding sample, nan elsewhere: its sigma' is
        ``slope + (1 - slope) eta_k``. Samples that share a hyperplane share it, up to
        ``eta -> 1 - eta`` for opposite ones; 1/2 where every choice gives the same field; one
        choice of many where the hyperplanes are dependent.
    role : Role
        Which sign of a it attracts, and whether neurons grow there.
    share, share_error : float
        Fraction of random balanced neurons that end there, and its standard error; nan if it
        was not asked for.
    exact : ExactExtremal or None
        Exact values, with ``exact=True``.
    """

    D: np.ndarray
    direction: np.ndarray
    norm: float
    G: float
    pattern: np.ndarray
    code: np.ndarray
    multipliers: np.ndarray
    role: Role
    share: float = float("nan")
    share_error: float = float("nan")
    exact: ExactExtremal | None = None

    @property
    def angle(self) -> float:
        """The angle of w in degrees, in [0, 360); nan unless d = 2."""
        if len(self.D) != 2:
            return float("nan")
        return float(np.degrees(np.arctan2(self.direction[1], self.direction[0])) % 360.0)


@dataclass(frozen=True, eq=False, repr=False)
class ExtremalVectors(Sequence[ExtremalVector]):
    """The nonzero extremal vectors of a data set: by angle for d = 2, else by falling norm.

    Attributes
    ----------
    nonzero : tuple of ExtremalVector
        The vectors; the sequence's items.
    complete : bool
        Whether all faces were visited, so that there are no others (up to rounding, unless they
        are exact).
    method : {"enumerate", "exact", "sample", "given"}
        How they were found; "given" are those at known directions.
    zero : (z, n) int8
        The patterns of cells of full dimension with D = 0, where neurons do not move: dead ones,
        all off, and others. Not found by sampling, and left out where all labels are zero.
    visited : int
        The number of visits to faces (in exact arithmetic a face can be visited more than
        once), or of samples.
    dead_share : float
        Fraction of random balanced neurons that end in such cells or at their borders; nan if it
        was not asked for, like `other_share`.
    other_share : float
        Fraction of them that end in a direction that is none of the vectors, within rounding; the
        shares, `dead_share` and `other_share` sum to 1. It is positive where hyperplanes nearly
        coincide and rounding decides ties of neurons, followed in floats, and of faces
        differently (``exact=True`` decides the faces exactly), or where labels differ so much in
        size that small ones are lost in rounding.
    """

    nonzero: tuple[ExtremalVector, ...]
    complete: bool
    method: str
    zero: np.ndarray
    visited: int
    dead_share: float = float("nan")
    other_share: float = float("nan")

    def __len__(self) -> int:
        return len(self.nonzero)

    @overload
    def __getitem__(self, item: int) -> ExtremalVector: ...
    @overload
    def __getitem__(self, item: slice) -> tuple[ExtremalVector, ...]: ...
    def __getitem__(self, item: int | slice) -> ExtremalVector | tuple[ExtremalVector, ...]:
        return self.nonzero[item]

    def __repr__(self) -> str:
        from flowsim.alignment import _extremal_table

        return _extremal_table.text(self)

    def to_latex(self) -> str:
        """Return a LaTeX tabular; with exact values where there are some."""
        from flowsim.alignment import _extremal_table

        return _extremal_table.latex(self)
