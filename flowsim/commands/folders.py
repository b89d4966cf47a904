"""Where a command's files go: folders, made and tried before anything is computed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from flowsim.commands.errors import CommandError

#: Where runs go that are given no folder.
RUNS = Path("runs")


@contextlib.contextmanager
def output_folder(output: Path | None, label: str) -> Iterator[Path]:
    """Give the folder of the results, made and tried *before* the run; remove it if left empty.

    Without `output` it is a new one, so that a run never replaces the results of another.
    """
    folder = output or _new_folder(label)
    made = [path for path in (folder, folder.parent) if not path.exists()]
    make_folder(folder)
    try:
        yield folder
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # not empty: as it should be
                path.rmdir()


def make_folder(folder: Path) -> None:
    """Make a folder and see whether files can be written there."""
    probe = folder / f".flowsim.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = "a file of that name is in the way" if isinstance(error, FileExistsError) else ""
        raise CommandError(
            f"The output folder {folder} cannot be written: "
            f"{reason or (error.strerror or str(error)).lower()}."
        ) from None


def _new_folder(label: str) -> Path:
    number, folder = 1, RUNS / label
    while folder.exists():
        number += 1
        folder = RUNS / f"{label}-{number}"
    return folder
