"""A progress line on a terminal: phase, time, loss and events of a run."""

from __future__ import annotations

import math
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from flowsim.engines.record import Progress


class ProgressBar:
    """Show where a run is, on a terminal only; call it with each `Progress`.

    How long a run will take is not known, so there is no bar to fill: the line shows
    the phase, log10 of the time, the loss, events and steps, and the seconds elapsed.

    Parameters
    ----------
    stream : text file
        Nothing is written to it unless it is a terminal.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._line: Any = None

    def __enter__(self) -> Self:
        if self._stream.isatty():
            from tqdm import tqdm

            self._line = tqdm(
                desc="starting (the first run of all compiles, for half a minute)",
                bar_format="{desc}  [{elapsed}]",
                file=self._stream,
                leave=False,
                dynamic_ncols=True,
            )
        return self

    def __call__(self, progress: Progress) -> None:
        if self._line is not None:
            self._line.set_description_str(describe(progress))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._line is not None:
            self._line.close()


def describe(progress: Progress) -> str:
    """Return one line on where a run is."""
    time = f"log10 t {math.log10(progress.t):6.3f}" if progress.t > 0.0 else "t 0"
    return (
        f"{progress.phase:<9}  {time}  loss {progress.loss:.4g} of {progress.loss0:.4g}  "
        f"events {progress.events}  steps {progress.steps}  alive {progress.alive}"
    )
