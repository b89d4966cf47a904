"""Where and how often a run is saved while it goes on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsim._arguments import real

#: Seconds between two checkpoints, unless others are asked for.
CHECKPOINT_SECONDS = 600.0


@dataclass(frozen=True)
class Saving:
    """A file, and the seconds from the end of one save to the next."""

    path: Path
    seconds: float

    @staticmethod
    def of(checkpoint: Any, checkpoint_seconds: Any) -> Saving | None:
        """Check the arguments of `flowsim.simulate`; None if nothing is to be saved.

        Raises
        ------
        TypeError, ValueError
            If they make no sense.
        """
        seconds = real("checkpoint_seconds", checkpoint_seconds)
        if not seconds > 0.0:
            raise ValueError(
                f"Argument `checkpoint_seconds` must be positive, but is {checkpoint_seconds}."
            )
        if checkpoint is None:
            return None
        if not isinstance(checkpoint, str | os.PathLike):
            raise TypeError(
                "Argument `checkpoint` must be the name of a file, but is of type "
                f"{type(checkpoint).__name__}."
            )
        return Saving(Path(checkpoint), seconds)
