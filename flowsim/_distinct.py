"""Distinct rows of a table of small integers, by hashing, compiled: to sort them is slower."""

from __future__ import annotations

import numpy as np
from numba import njit

#: Slots of an empty hash table, a power of two.
SMALLEST = 64
#: Bytes of a word.
WORD = 8


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct rows of an (m, k) int8 array in the order in which they come.

    Returns where each comes first (C,), and the number (m,) of every row.
    """
    number = np.empty(len(rows), np.int64)
    return _number_rows(_words(rows), number), number


def _words(rows: np.ndarray) -> np.ndarray:
    """Return rows of bytes as rows of words, filled up with zeros: an eighth as much to read."""
    k = rows.shape[1]
    if k % WORD:
        filled = np.zeros((len(rows), k + WORD - k % WORD), np.int8)
        filled[:, :k] = rows
        rows = filled
    return np.ascontiguousarray(rows).view(np.uint64)


def sorted_rows(rows: np.ndarray) -> np.ndarray:
    """Return the distinct rows (C, k) of an (m, k) int8 array in lexicographic order."""
    distinct = np.ascontiguousarray(rows[distinct_rows(rows)[0]])
    unsigned = distinct.view(np.uint8) ^ 0x80  # bytes in the order of the integers
    order = sorted(range(len(distinct)), key=lambda j: unsigned[j].tobytes())
    return distinct[order]


@njit(cache=True, nogil=True)
def _number_rows(rows, number):  # pragma: no cover - compiled
    """Write the rows' numbers; return the distinct rows' first places."""
    table, first = np.full(SMALLEST, -1), np.empty(SMALLEST, np.int64)
    count = 0
    for j in range(rows.shape[0]):
        at = _find(rows, j, table, first)
        if table[at] < 0:
            if 2 * count >= table.shape[0]:
                table, first = _larger(rows, count, first)
                at = _find(rows, j, table, first)
            table[at], first[count] = count, j
            count += 1
        number[j] = table[at]
    return first[:count].copy()


@njit(cache=True, nogil=True)
def _larger(rows, count, first):  # pragma: no cover - compiled
    """Return a table twice as large, and room for as many rows."""
    size = 2 * first.shape[0]
    table, room = np.full(size, -1), np.empty(size, np.int64)
    room[:count] = first[:count]
    for i in range(count):
        table[_find(rows, first[i], table, room)] = i
    return table, room


@njit(cache=True, nogil=True)
def _find(rows, j, table, first):  # pragma: no cover - compiled
    """Return the slot of row j's like in the table, or the empty one where it belongs."""
    code = np.uint64(14695981039346656037)  # FNV-1a
    for i in range(rows.shape[1]):
        code = (code ^ rows[j, i]) * np.uint64(1099511628211)
        code ^= code >> np.uint64(32)
    at = np.int64(code & np.uint64(table.shape[0] - 1))
    while table[at] >= 0 and not _same(rows, j, first[table[at]]):
        at = (at + 1) & (table.shape[0] - 1)
    return at


@njit(cache=True, nogil=True)
def _same(rows, j, k):  # pragma: no cover - compiled
    i = 0
    while i < rows.shape[1] and rows[j, i] == rows[k, i]:
        i += 1
    return i == rows.shape[1]
