"""Groups: the living neurons of one cell, which undergo one and the same linear flow."""

from __future__ import annotations

import numpy as np

from flowsim.cells import Cells, multiplier_map, projector


class Groups:
    """Which cell every living neuron is in, and what the kernels need of each cell.

    Slots are reused; `slot[j]` is -1 for neurons that do not move. Sliding cells are
    kept apart by the sign of ``a``, which decides in which direction a slide ends.
    """

    def __init__(self, cells: Cells, m: int) -> None:
        self.cells = cells
        self.slot = np.full(m, -1, dtype=np.int64)
        self.count: list[int] = []
        self._slot_of: dict[bytes, int] = {}
        self._key_of: list[bytes] = []
        self._free: list[int] = []
        self._allocate(max(8, min(2 * m, 64)))
        #: Slots whose slides are linearly dependent; their end is watched step by step.
        self.dependent: set[int] = set()

    def _allocate(self, capacity: int) -> None:
        n, d = self.cells.n, self.cells.d

        def grown(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
            new = np.zeros((capacity, *shape), dtype=dtype)
            old = getattr(self, name, None)
            if old is not None:
                new[: len(old)] = old
            return new

        self.coef = grown("coef", (n,), np.float64)
        self.projected = grown("projected", (), np.bool_)
        self.projector = grown("projector", (d, d), np.float64)
        self.slide_count = grown("slide_count", (), np.int64)
        self.slides = grown("slides", (d,), np.int64)
        self.multipliers = grown("multipliers", (d, d), np.float64)
        self.code = grown("code", (self.cells.n_hyperplanes,), np.int8)

    def place(self, j: int, code: np.ndarray, sign: int) -> None:
        """Put neuron `j` into the group of its cell, making the group if need be."""
        self.remove(j)
        sliding = not np.all(code)
        key = code.tobytes() + (bytes([sign & 0xFF]) if sliding else b"")
        slot = self._slot_of.get(key)
        if slot is None:
            slot = self._new_slot(key)
            self._describe(slot, code, sliding)
        self.slot[j] = slot
        self.count[slot] += 1

    def remove(self, j: int) -> None:
        """Take neuron `j` out; an empty group's slot is freed."""
        slot = self.slot[j]
        if slot < 0:
            return
        self.slot[j] = -1
        self.count[slot] -= 1
        if self.count[slot] == 0:
            del self._slot_of[self._key_of[slot]]
            self.dependent.discard(slot)
            self._free.append(slot)

    def _new_slot(self, key: bytes) -> int:
        if self._free:
            slot = self._free.pop()
            self._key_of[slot] = key
        else:
            slot = len(self.count)
            self.count.append(0)
            self._key_of.append(key)
            if slot >= len(self.coef):
                self._allocate(2 * len(self.coef))
        self._slot_of[key] = slot
        return slot

    def _describe(self, slot: int, code: np.ndarray, sliding: bool) -> None:
        self.code[slot] = code
        self.coef[slot] = self.cells.coefficients(code)
        self.projected[slot] = sliding
        self.slide_count[slot] = 0
        if not sliding:
            return
        planes = np.flatnonzero(code == 0)
        normals = self.cells.normals[planes]
        self.projector[slot], rank = projector(normals)
        if rank < len(planes):
            self.dependent.add(slot)
            return
        self.slide_count[slot] = rank
        self.slides[slot, :rank] = planes
        self.multipliers[slot, :rank] = multiplier_map(normals)

    def ordered(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (active slots, offsets, members): the neurons sorted by group."""
        moving = np.flatnonzero(self.slot >= 0)
        slots = self.slot[moving]
        members = moving[np.argsort(slots, kind="stable")]
        active, start = np.unique(self.slot[members], return_index=True)
        return (
            active.astype(np.int64),
            np.append(start, len(members)).astype(np.int64),
            members.astype(np.int64),
        )
