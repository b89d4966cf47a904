"""``flowsim threshold``: a study of when networks stop to interpolate."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from flowsim.commands.errors import CommandError
from flowsim.commands.folders import RUNS, output_folder
from flowsim.commands.parsing import parse_again

if TYPE_CHECKING:
    from flowsim.config_threshold import ThresholdConfig
    from flowsim.experiments.sweep import StudyProgress


def threshold(config: ThresholdConfig, arguments: list[str]) -> bool:
    """Make a study, save, draw and report it; return whether all runs could be made."""
    from flowsim.experiments import threshold

    config = _with_toml(config, arguments)
    # The same folder for the same study, so that it goes on where it was cut off.
    with output_folder(config.output or RUNS / config.label, config.label) as folder:
        path = folder / "threshold.nc"
        try:
            with StudyBar() as progress:
                found = threshold(path=path, progress=progress, **config.arguments())
        except KeyboardInterrupt:
            kept = "the runs made so far are kept; the same command goes on"
            raise KeyboardInterrupt(kept) from None
    picture = folder / "threshold.png"
    try:
        _draw(found, picture)
    finally:
        print("\n".join([found.table(), "", "Files", f"  {path}", f"  {picture}"]))
    if found.sweep.failed:
        failed = found.sweep.dataset.where(found.sweep.dataset.status == "error")
        message = next(text for text in failed.message.values.ravel() if isinstance(text, str))
        print(
            f"flowsim: warning: {found.sweep.failed} runs failed, the first one: {message}",
            file=sys.stderr,
        )
    return not found.sweep.failed


def _with_toml(config: ThresholdConfig, arguments: list[str]) -> ThresholdConfig:
    """Return the options again, those of a TOML file below those of the command line."""
    from flowsim.config_threshold import read_study

    if not config.source:
        return config
    path = Path(config.source)
    if path.suffix.lower() != ".toml":
        raise CommandError(f"The study must be a TOML file, but is {config.source!r}.")
    merged = parse_again(read_study(path), arguments)
    assert merged is not None  # these arguments have been parsed before
    return replace(merged, name=path.stem)


def _draw(found: Any, path: Path) -> None:
    from flowsim.files import replacing

    with replacing(path) as temporary:
        found.plot().savefig(temporary, format="png")


#: Seconds between two lines where there is no terminal.
SECONDS = 60.0


class StudyBar:
    """Show how far a study is, on a terminal or as a line a minute; call it with its progress."""

    def __init__(self) -> None:
        self._line: Any = None
        self._told = 0.0

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from tqdm import tqdm

            form = "{desc} {percentage:3.0f}%|{bar}| [{elapsed}{postfix}]"
            self._line = tqdm(
                total=1.0, bar_format=form, file=sys.stderr, leave=False, dynamic_ncols=True
            )
            self._line.set_description_str("starting (the first run of all compiles, for a minute)")
        return self

    def __call__(self, progress: StudyProgress) -> None:
        failed = f", {progress.failed} failed" if progress.failed else ""
        text = f"{progress.done} of {progress.total} runs{failed}"
        if self._line is None:
            if progress.seconds >= self._told + SECONDS:
                self._told = progress.seconds
                print(f"{text}, {progress.left:.0f} s left", file=sys.stderr, flush=True)
            return
        if progress.part > 0.0:
            self._line.set_description_str(text, False)
            self._line.set_postfix_str(f"{progress.left:.0f} s left", False)
        self._line.n = min(progress.part, 1.0)
        self._line.refresh()

    def __exit__(self, *error: object) -> None:
        if self._line is not None:
            self._line.close()
