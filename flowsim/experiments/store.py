"""Records on the disk: shards, each written whole or not at all.

A folder of JSON files, one a shard. Records are found by the keys of their points, hashes of all
that determines a run: a study that is run again, with another grid, other shards or other workers,
finds what it has made before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flowsim.experiments.records import FIELDS
from flowsim.files import replacing

Records = dict[str, dict[str, Any]]
_SUFFIX = ".json"


class Store:
    """Keep records in a folder, or in memory only.

    Parameters
    ----------
    folder : Path, optional
        Made when the first shard is written.

    Raises
    ------
    OSError
        If the folder cannot be read.
    ValueError
        If a file in it is no shard.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.records: Records = {}
        if folder is not None and folder.exists():
            for path in sorted(folder.glob(f"*{_SUFFIX}")):
                self.records.update(_read(path))

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return those of some keys that have no record."""
        return [key for key in keys if key not in self.records]

    def add(self, records: Mapping[str, dict[str, Any]]) -> None:
        """Keep the records of a shard; on the disk, all of them or, if this is cut off, none."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = hashlib.sha256(" ".join(sorted(records)).encode()).hexdigest()[:24]
            with replacing(self.folder / f"{name}{_SUFFIX}") as temporary:
                temporary.write_text(json.dumps(records), encoding="utf-8")
        self.records.update(records)


def _read(path: Path) -> Records:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        assert all(_valid(record) for record in records.values())
    except (OSError, ValueError, TypeError, AttributeError, AssertionError, RecursionError):
        raise ValueError(
            f"Folder {path.parent} must hold the shards of a study only, but {path.name} is none: "
            f"remove it, and its runs are made again."
        ) from None
    return records


def _valid(record: dict[str, Any]) -> bool:
    """Return whether a record has a status and fields of their types."""
    kinds = {str: str, int: int, float: (int, float)}
    typed = all(isinstance(record[x], kinds[f.kind]) for x, f in FIELDS.items() if x in record)
    return typed and "status" in record
