"""Groups: the living neurons of one cell, which undergo one and the same linear flow."""

from __future__ import annotations

import numpy as np

from flowsim._distinct import distinct_rows
from flowsim.cells import Cells, multiplier_map, projector
from flowsim.engines._regroup import find_members, list_by_slot, regroup
from flowsim.events import ALIVE


class Groups:
    """Which cell every living neuron is in, and what the kernels need of each cell.

    Slots are reused; `slot[j]` is -1 for neurons that do not move. Sliding cells are
    kept apart by the sign of ``a``, which decides in which direction a slide ends.
    """

    def __init__(self, cells: Cells, m: int) -> None:
        self.cells = cells
        self.slot = np.full(m, -1, dtype=np.int64)
        self._slot_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        #: Slots below `_used` hold neurons, or are _free[:_unused], the next to be taken last.
        self._used, self._unused = 0, 0
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

        self.count = grown("count", (), np.int64)
        self.projected = grown("projected", (), np.bool_)
        self.projector = grown("projector", (d, d), np.float64)
        self.slide_count = grown("slide_count", (), np.int64)
        self.slides = grown("slides", (d,), np.int64)
        self.multipliers = grown("multipliers", (d, d), np.float64)
        self.code = grown("code", (self.cells.n_hyperplanes,), np.int8)
        self._free = grown("_free", (), np.int64)
        #: (slots, n) activation codes of the samples: -1 off, 0 slide, 1 on.
        self.on = grown("on", (n,), np.int8)

    def place_all(
        self, neurons: np.ndarray, codes: np.ndarray, signs: np.ndarray, fates: np.ndarray
    ) -> None:
        """Put neurons into the groups of their cells, making these if need be; the dead into none.

        codes (m, G), signs and fates (m,) are those of all neurons.
        """
        self._ordered = None
        alive = fates[neurons] == ALIVE
        keys = np.empty((len(neurons), codes.shape[1] + 1), np.int8)
        own = keys[:, :-1]
        own[:] = codes[neurons]
        keys[:, -1] = np.where(np.any(own == 0, axis=1), signs[neurons], 0)
        first, key = distinct_rows(keys)
        names = [keys[i].tobytes() for i in first.tolist()]
        known = np.array([self._slot_of.get(name, -1) for name in names], dtype=np.int64)
        self._reserve(self._used + int(np.sum(known < 0)) - self._unused)
        changes = np.empty((2 * len(neurons), 2), np.int64)
        self._used, self._unused, count = regroup(
            neurons, key, alive, known, self.slot, self.count, self._used, self._free,
            self._unused, changes,
        )  # fmt: skip
        for slot, number in changes[:count].tolist():
            if number < 0:
                self._release(slot)
            else:
                self._describe(slot, names[number], own[first[number]])
        made = changes[:count, 0][changes[:count, 1] >= 0]
        self.on[made] = self.cells.sample_codes(self.code[made])

    def arrangement(self) -> tuple[np.ndarray, np.ndarray]:
        """Return each neuron's slot (m,), and the free slots, the next to be taken last."""
        return self.slot.astype(np.int32), self._free[: self._unused].astype(np.int32)

    def arrange(
        self, arrangement: tuple[np.ndarray, np.ndarray], codes: np.ndarray, signs: np.ndarray
    ) -> None:
        """Put all neurons into the slots of an `arrangement`; nothing has been placed before.

        The order of slots is that in which outputs are summed: it decides how they are rounded.
        """
        slot, free = arrangement
        self.slot[:] = slot
        self._used = int(max(np.max(slot, initial=-1), np.max(free, initial=-1))) + 1
        self._reserve(self._used)
        self.count[: self._used] = np.bincount(slot[slot >= 0], minlength=self._used)
        taken, first = np.unique(slot, return_index=True)
        for here, j in zip(taken.tolist(), first.tolist(), strict=True):
            if here >= 0:
                slides = not np.all(codes[j])
                key = np.append(codes[j], signs[j] if slides else 0).astype(np.int8)
                self._describe(here, key.tobytes(), codes[j])
        self.on[: self._used] = self.cells.sample_codes(self.code[: self._used])
        self._unused = len(free)
        self._free[: self._unused] = free

    @property
    def living(self) -> int:
        """How many neurons live: all of those have been placed."""
        return int(np.sum(self.count))

    def coefficients(self, slots: np.ndarray) -> np.ndarray:
        """Return the slopes of sigma at the samples, 0 on slides (len(slots), n)."""
        return self.cells.coefficients(self.code[slots])

    def _reserve(self, slots: int) -> None:
        """Make room for so many slots."""
        if slots > len(self.code):
            self._allocate(max(slots, 2 * len(self.code)))

    def _release(self, slot: int) -> None:
        """Forget the cell of a slot that has become free."""
        del self._slot_of[self._key_of.pop(slot)]
        self.dependent.discard(slot)

    def _describe(self, slot: int, key: bytes, code: np.ndarray) -> None:
        """Let a slot be of the cell `code` (G,)."""
        self._slot_of[key], self._key_of[slot] = slot, key
        self.code[slot] = code
        self.slide_count[slot], self.projected[slot] = 0, not np.all(code)
        if self.projected[slot]:
            self._describe_slides(slot, code)

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
            active = np.flatnonzero(self.count)
            start = np.concatenate([[0], np.cumsum(self.count[active])])
            place = np.zeros(len(self.count), np.int64)
            place[active] = start[:-1]
            members = np.empty(start[-1], np.int64)
            list_by_slot(self.slot, place, members)
            self._ordered = active, start, members
        return self._ordered

    def places(self, neurons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which of the `ordered` groups each of some living neurons is in, and where."""
        active, start, members = self.ordered()
        group, member = np.searchsorted(active, self.slot[neurons]), np.empty_like(neurons)
        find_members(neurons, group, start, members, member)
        return group, member
