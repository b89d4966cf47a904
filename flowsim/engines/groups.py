"""Groups: the living neurons of one cell, which undergo one and the same linear flow."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from flowsim.cells import Cells, multiplier_map, projector
from flowsim.events import ALIVE


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
        self._ordered: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
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

        self.projected = grown("projected", (), np.bool_)
        self.projector = grown("projector", (d, d), np.float64)
        self.slide_count = grown("slide_count", (), np.int64)
        self.slides = grown("slides", (d,), np.int64)
        self.multipliers = grown("multipliers", (d, d), np.float64)
        self.code = grown("code", (self.cells.n_hyperplanes,), np.int8)
        #: (slots, n) activation codes of the samples: -1 off, 0 slide, 1 on.
        self.on = grown("on", (n,), np.int8)

    def place_all(
        self, neurons: np.ndarray, codes: np.ndarray, signs: np.ndarray, fates: np.ndarray
    ) -> None:
        """Put neurons into the groups of their cells, making these if need be; the dead into none.

        codes (m, G), signs and fates (m,) are those of all neurons.
        """
        self._ordered = None
        own, made = codes[neurons], []
        buffer, width = own.tobytes(), own.shape[1]  # one copy; a key is a slice of it
        sliding = ~np.all(own, axis=1)
        slots = self.slot[neurons].tolist()
        columns = (sliding.tolist(), signs[neurons].tolist(), fates[neurons].tolist())
        for i, (slides, sign, fate) in enumerate(zip(*columns, strict=True)):
            key = buffer[i * width : (i + 1) * width] + (bytes([sign & 0xFF]) if slides else b"")
            here, alive = slots[i], fate == ALIVE
            if here >= 0 and alive and self._key_of[here] == key:
                continue
            if here >= 0:
                self._leave(here)
            slots[i] = -1
            if not alive:
                continue
            slot = self._slot_of.get(key)
            if slot is None:
                slot = self._new_slot(key)
                self.code[slot] = own[i]
                made.append(slot)
                self.slide_count[slot], self.projected[slot] = 0, slides
                if slides:
                    self._describe_slides(slot, own[i])
            slots[i] = slot
            self.count[slot] += 1
        self.slot[neurons] = slots
        self.on[made] = self.cells.sample_codes(self.code[made])

    def arrangement(self) -> tuple[np.ndarray, np.ndarray]:
        """Return each neuron's slot (m,), and the free slots, the next to be taken last."""
        return self.slot.astype(np.int32), np.array(self._free, dtype=np.int32)

    def arrange(
        self, arrangement: tuple[np.ndarray, np.ndarray], codes: np.ndarray, signs: np.ndarray,
        fates: np.ndarray,
    ) -> None:  # fmt: skip
        """Put all neurons into the slots of an `arrangement`; nothing has been placed before.

        The order of slots is that in which outputs are summed: it decides how they are rounded.
        """
        slot, free = arrangement
        by_slot = np.argsort(slot, kind="stable")
        last = max(np.max(slot, initial=-1), np.max(free, initial=-1))
        bounds = np.searchsorted(slot[by_slot], np.arange(last + 2))
        for i, j in pairwise(bounds.tolist()):
            if i < j:
                self.place_all(by_slot[i:j], codes, signs, fates)
            else:
                del self._slot_of[self._key_of[self._new_slot(b"")]]
        self._free = free.tolist()

    def coefficients(self, slots: np.ndarray) -> np.ndarray:
        """Return the slopes of sigma at the samples, 0 on slides (len(slots), n)."""
        return self.cells.coefficients(self.code[slots])

    def _leave(self, slot: int) -> None:
        """Take a neuron out of a group; an empty group's slot is freed."""
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
            if slot >= len(self.code):
                self._allocate(2 * len(self.code))
        self._slot_of[key] = slot
        return slot

    def _describe_slides(self, slot: int, code: np.ndarray) -> None:
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
        if self._ordered is None:
            moving = np.flatnonzero(self.slot >= 0)
            slots = self.slot[moving]
            # A stable sort of small integers is a radix sort, many times faster.
            small = slots.astype(np.uint16) if len(self.count) < 2**16 else slots
            members = moving[np.argsort(small, kind="stable")]
            by_group = self.slot[members]
            start = np.flatnonzero(np.append(True, by_group[1:] != by_group[:-1])[: len(members)])
            self._ordered = (
                by_group[start].astype(np.int64),
                np.append(start, len(members)).astype(np.int64),
                members.astype(np.int64),
            )
        return self._ordered
