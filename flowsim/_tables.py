"""Reading tables of numbers from CSV and NPZ files, with messages that name file and line."""

from __future__ import annotations

import csv
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flowsim._rational import exact

StrPath = str | os.PathLike[str]


class Table(NamedTuple):
    """The cells of a CSV file: `rows` of number strings, and the `header` if it has one."""

    header: list[str] | None
    rows: list[list[str]]


def read_csv(path: StrPath) -> Table:
    """Read a comma-separated table of numbers.

    Blank lines and lines that start with ``#`` are skipped. The first row is a header if none of
    its cells is a number.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not text, has no rows, has ragged rows, or a cell is not a finite number.
    """
    lines = _csv_lines(path)
    header = None
    if lines and not any(_is_number(cell) for cell in lines[0][1]):
        header = lines.pop(0)[1]
    if not lines:
        raise ValueError(f"Argument `path` must name a table with rows, but {path} has none.")
    width = len(header) if header is not None else len(lines[0][1])
    for number, cells in lines:
        if len(cells) != width:
            raise ValueError(
                f"Argument `path` must name a table with rows of one length, but line {number} of "
                f"{path} has {len(cells)} cells instead of {width}."
            )
        for column, cell in enumerate(cells, start=1):
            _check_cell(cell, f"line {number}, column {column} of {path}")
    return Table(header, [cells for _, cells in lines])


def _csv_lines(path: StrPath) -> list[tuple[int, list[str]]]:
    """Return the line number and the stripped cells of each line that holds any."""
    lines = []
    try:
        # utf-8-sig: spreadsheets put a byte-order mark in front.
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells) and not cells[0].startswith("#"):
                    lines.append((reader.line_num, cells))
    except OSError as error:
        raise _unreadable(path, error) from None
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(
            f"Argument `path` must name a CSV file in UTF-8, but {path} is not one."
        ) from None
    return lines


def _is_number(cell: str) -> bool:
    try:
        exact(cell)
    except OverflowError:  # "nan", "inf", "1e999": numbers, if not good ones
        return True
    except ValueError:
        return False
    return True


def _check_cell(cell: str, place: str) -> None:
    try:
        exact(cell)
    except (ValueError, OverflowError):
        raise ValueError(
            f"Argument `path` must name a table of finite numbers, but {place} is {cell!r}."
        ) from None


def target_column(target: int | str | None, table: Table, path: StrPath) -> int:
    """Return the index of the target column, by default the last one.

    Raises
    ------
    TypeError
        If `target` is neither an index nor a name.
    ValueError
        If the table has no such column, or has no other one.
    """
    width = len(table.rows[0])
    if width < 2:
        raise ValueError(
            f"Argument `path` must name a table with inputs and a target, but {path} has 1 column."
        )
    if target is None:
        return width - 1
    if isinstance(target, str):
        if table.header is None or target not in table.header:
            columns = "no header" if table.header is None else ", ".join(table.header)
            raise ValueError(
                f"Argument `target` must name a column of {path}, but it is {target!r} and the "
                f"columns are: {columns}."
            )
        return table.header.index(target)
    if not isinstance(target, int):
        raise TypeError(f"Argument `target` must be an index or a name, but it is {target!r}.")
    if not -width <= target < width:
        raise ValueError(
            f"Argument `target` must index one of {width} columns of {path}, but it is {target}."
        )
    return target % width


def read_npz(path: StrPath) -> dict[str, np.ndarray]:
    """Read the arrays of an NPZ file.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not an NPZ file, or holds pickled objects.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile):
        # TypeError, AttributeError: a plain .npy file, which loads as an array
        raise ValueError(
            f"Argument `path` must name an NPZ file of plain arrays, but {path} is not one."
        ) from None


def _unreadable(path: StrPath, error: OSError) -> OSError:
    """Return an error of the same type with one sentence instead of an errno."""
    reason = (error.strerror or str(error)).lower()
    return type(error)(f"Argument `path` must name a readable file, but {Path(path)}: {reason}.")
