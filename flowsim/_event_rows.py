"""Rows of events as they come: in memory up to a budget, beyond it in a temporary file.

The file has no name, or loses it when it is closed: nothing of it outlives the process, nor the
arrays that are mapped onto it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from tempfile import TemporaryFile
from typing import IO

import numpy as np

#: Columns of a row, the widest first, so that columns one after another are aligned.
COLUMNS = {
    "t": np.dtype(np.float64),
    "neuron": np.dtype(np.int32),
    "sample": np.dtype(np.int32),
    "kind_code": np.dtype(np.int8),
    "before": np.dtype(np.int8),
    "after": np.dtype(np.int8),
}
ROW = np.dtype(list(COLUMNS.items()))
#: Memory for events, unless a run is given another.
EVENT_BYTES = 2**30
#: Rows are kept, written and read in blocks of at most so many.
BLOCK = 2**16


class Rows:
    """Rows in the order in which they come.

    Parameters
    ----------
    budget : int
        Bytes; beyond that, rows go to disk.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._most = max(min(BLOCK, budget // (2 * ROW.itemsize)), 1)
        self._blocks: list[np.ndarray] = []  # full ones
        self._open = np.empty(min(16, self._most), ROW)
        self._filled = 0
        self._file: IO[bytes] | None = None
        self._on_disk = 0

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return self._on_disk + self._most * len(self._blocks) + self._filled

    def append(self, row: tuple[float, int, int, int, int, int]) -> None:
        """Add one row, in the order of `COLUMNS`."""
        if self._filled == len(self._open):
            self._make_room()
        self._open[self._filled] = row
        self._filled += 1

    def extend(self, rows: np.ndarray) -> None:
        """Add rows of type `ROW`."""
        while len(rows):
            if self._filled == len(self._open):
                self._make_room()
            part = rows[: len(self._open) - self._filled]
            self._open[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            rows = rows[len(part) :]

    def chunks(self) -> Iterator[np.ndarray]:
        """Give all rows, in pieces of at most `BLOCK`."""
        if self._file is not None:
            for start in range(0, self._on_disk, BLOCK):
                self._file.seek(start * ROW.itemsize)
                count = min(BLOCK, self._on_disk - start)
                yield np.frombuffer(self._file.read(count * ROW.itemsize), ROW)
        yield from self._blocks
        yield self._open[: self._filled]

    def _make_room(self) -> None:
        """Double the open block, or begin another."""
        if len(self._open) < self._most:
            more = min(len(self._open), self._most - len(self._open))
            self._open = np.concatenate([self._open, np.empty(more, ROW)])
            return
        self._blocks.append(self._open)
        self._open, self._filled = np.empty(self._most, ROW), 0
        if (len(self._blocks) + 1) * self._most * ROW.itemsize > self._budget:
            self._move_to_disk()

    def _move_to_disk(self) -> None:
        if self._file is None:
            self._file = TemporaryFile(prefix="flowsim-")  # noqa: SIM115, it lives as long as this
        self._file.seek(self._on_disk * ROW.itemsize)
        for block in self._blocks:
            self._file.write(block.view(np.uint8).data)
            self._on_disk += len(block)
        self._blocks = []


def in_time_order(rows: Rows, late: np.ndarray) -> Iterator[np.ndarray]:
    """Give all rows by time; those of one time as they came, and then those of `late`.

    Rows come nearly by time, so few wait for what is still to come.

    Parameters
    ----------
    rows : Rows
    late : (L,) of type `ROW`
        More rows, in memory.
    """
    late = late[np.argsort(late["t"], kind="stable")]
    firsts = np.array([np.min(chunk["t"], initial=np.inf) for chunk in rows.chunks()])
    still_to_come = np.append(np.minimum.accumulate(firsts[::-1])[::-1][1:], np.inf)
    waiting = np.empty(0, ROW)
    for chunk, bound in zip(rows.chunks(), still_to_come, strict=True):
        before = int(np.searchsorted(late["t"], bound))
        waiting = np.concatenate([waiting, chunk, late[:before]])
        late = late[before:]
        waiting = waiting[np.argsort(waiting["t"], kind="stable")]
        ready = int(np.searchsorted(waiting["t"], bound, side="right"))
        yield waiting[:ready]
        waiting = waiting[ready:]


def columns_of(chunks: Iterable[np.ndarray], count: int, budget: int) -> dict[str, np.ndarray]:
    """Return `count` rows by columns, mapped onto a temporary file if they exceed the budget."""
    if count * ROW.itemsize > budget:
        return _mapped(chunks, count)
    columns = {name: np.empty(count, dtype) for name, dtype in COLUMNS.items()}
    at = 0
    for rows in chunks:
        for name, column in columns.items():
            column[at : at + len(rows)] = rows[name]
        at += len(rows)
    return columns


def _mapped(chunks: Iterable[np.ndarray], count: int) -> dict[str, np.ndarray]:
    sizes = [count * dtype.itemsize for dtype in COLUMNS.values()]
    starts = dict(zip(COLUMNS, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    with TemporaryFile(prefix="flowsim-") as file:
        at = 0
        for rows in chunks:  # written, not mapped yet: a full disk is an error, and no crash
            for name, dtype in COLUMNS.items():
                file.seek(starts[name] + at * dtype.itemsize)
                file.write(np.ascontiguousarray(rows[name]).data)
            at += len(rows)
        file.flush()
        image = np.asarray(np.memmap(file, np.uint8, "c"))
    return {
        name: image[starts[name] : starts[name] + count * dtype.itemsize].view(dtype)
        for name, dtype in COLUMNS.items()
    }
