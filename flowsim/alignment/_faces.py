"""Faces of any central arrangement, in general position or not.

A pointed arrangement has rays, faces of dimension 1, and every face of dimension at least 1 has
one in its closure; around a ray v the arrangement looks like that of the hyperplanes K through v.
So the codes of all faces are those of rays with the zeros at K filled in by the faces of K's
arrangement, which has smaller rank (Bjorner et al. 1999, Oriented Matroids, section 4.1: covectors
are compositions of cocircuits).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

Code = tuple[int, ...]


class Ray(NamedTuple):
    """A ray of the arrangement; its negative is one too.

    Attributes
    ----------
    v : tuple (d,)
        A vector on it.
    values : tuple (G,)
        ``n_g . v``.
    on : tuple
        The hyperplanes through it, those whose value is 0.
    """

    v: tuple[Any, ...]
    values: tuple[Any, ...]
    on: tuple[int, ...]


class Faces(ABC):
    """An arrangement whose faces are found around its rays."""

    size: int
    rank: int
    _local: dict[tuple[int, ...], list[Code]]

    @abstractmethod
    def rays(self) -> Iterator[Ray]:
        """Yield one of each pair of opposite rays."""

    @abstractmethod
    def restricted(self, on: tuple[int, ...]) -> Faces:
        """Return the arrangement of the hyperplanes `on` alone."""

    def around(self, on: tuple[int, ...]) -> list[Code]:
        """Return the codes of all faces of the arrangement of the hyperplanes through a ray."""
        if len(on) == self.rank - 1:  # independent
            return list(product((1, -1, 0), repeat=len(on)))
        if on not in self._local:
            self._local[on] = list(self.restricted(on).faces())
        return self._local[on]

    def visits(self) -> Iterator[tuple[Ray, int, Code]]:
        """Yield (ray, its sign, codes of ``ray.on``) for each face but the origin.

        A face comes once for each ray in its closure.
        """
        for ray in self.rays():
            for sign in (1, -1):
                for local in self.around(ray.on):
                    yield ray, sign, local

    def faces(self) -> set[Code]:
        """Return the codes of all faces, the origin included."""
        return {(0,) * self.size} | {compose(*visit) for visit in self.visits()}

    def cells(self) -> set[Code]:
        """Return the codes of all faces of full dimension."""
        return {compose(*visit) for visit in self.visits() if all(visit[2])}


def compose(ray: Ray, sign: int, local: Code) -> Code:
    """Return the code of the face that a ray, turned by `sign`, is in the closure of."""
    code = [sign * ((value > 0) - (value < 0)) for value in ray.values]
    for g, side in zip(ray.on, local, strict=True):
        code[g] = side
    return tuple(code)
