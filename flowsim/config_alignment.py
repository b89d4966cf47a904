"""What ``flowsim extremal`` and ``flowsim align`` consist of.

Both take the data options of ``flowsim run`` and its TOML files, of which they use the tables
``[data]`` and ``[init]`` and, in ``[run]``, the loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, Suppress, arg

from flowsim.config import DataOptions, InitOptions, OptionalPath, RunConfig

_SOURCE = "NAME|FILE.toml|DATA.csv"
_OptionalFile = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")]


@dataclass(frozen=True)
class ExtremalConfig:
    """Print the extremal vectors of data: the directions that early alignment can end in.

    A neuron that points along one of them stays there while it is small. A row says the
    activation pattern (1 on, 0 off, b on the boundary), D, which sign of a it attracts and
    whether neurons grow there, and the coefficients of samples on the boundary.
    """

    source: Annotated[Positional[str], arg(metavar=_SOURCE)]
    """A named system (three-points, orthogonal-pair, five-points, xor, ...), a TOML file
    with the table [data], or data in a CSV or NPZ file."""
    data: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    exact: Annotated[bool, arg(help_behavior_hint="")] = False
    """Decide everything in rational arithmetic and print fractions."""
    latex: Annotated[bool, arg(help_behavior_hint="")] = False
    """Print a LaTeX tabular."""
    method: Literal["auto", "enumerate", "sample"] = "auto"
    """Visit all cells and their borders, or follow random neurons, which may miss some."""
    samples: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: 10000)")] = None
    """Number of random neurons, whose shares the table lists; 0 for none."""
    seed: int = 0
    """Seed of the random neurons."""
    negative_slope: float = 0.0
    """Slope of the activation on its negative side, in [0, 1): 0 is ReLU."""
    loss: Literal["half_mean", "mean"] = "half_mean"
    """(1/2n) Σ r² or (1/n) Σ r², whose D is twice as large."""
    output: _OptionalFile = None
    """File to write to instead of the terminal; an earlier one is replaced."""
    name: Suppress[str] = ""

    @property
    def label(self) -> str:
        """A short name of the data: that of the system, or of the file."""
        return self.name or Path(self.source).stem.replace("_", "-")

    @staticmethod
    def of_run(run: RunConfig) -> ExtremalConfig:
        """Return what a run's file says about its extremal vectors."""
        return ExtremalConfig(
            source=run.source, data=run.data, negative_slope=run.init.negative_slope,
            loss=run.run.loss, name=run.name,
        )  # fmt: skip


@dataclass(frozen=True)
class AlignConfig:
    """Follow early alignment, the flow with the residual frozen at y, in closed form.

    Prints where the neurons go and when, and writes align.png and, for inputs of
    dimension 2 or 3, a picture that moves, align.gif.
    """

    source: Annotated[Positional[str], arg(metavar=_SOURCE)]
    """A named system (three-points, orthogonal-pair, five-points, xor, ...), a TOML file
    with the tables [data] and [init], or data in a CSV or NPZ file."""
    data: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    init: OmitArgPrefixes[InitOptions] = field(default_factory=InitOptions)
    t: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None
    """Time to stop at (default: when no neuron has an event to come)."""
    angle: Annotated[float | None, arg(metavar="DEGREES", help_behavior_hint="")] = None
    """Stop when every living neuron is within this angle of its limit, instead."""
    loss: Literal["half_mean", "mean"] = "half_mean"
    """(1/2n) Σ r² or (1/n) Σ r², whose flow runs twice as fast."""
    frames: int = 100
    """Number of frames of align.gif."""
    seconds: float = 8.0
    """Length of align.gif, at most 50 frames a second."""
    output: OptionalPath = None
    """Folder of the pictures; files in it are replaced (default: a new one below runs)."""
    name: Suppress[str] = ""

    @property
    def label(self) -> str:
        """A short name for the folder: that of the system, or of the file, and what was done."""
        return f"{self.name or Path(self.source).stem.replace('_', '-')}-alignment"

    @staticmethod
    def of_run(run: RunConfig) -> AlignConfig:
        """Return what a run's file says about its early alignment."""
        return AlignConfig(
            source=run.source, data=run.data, init=run.init, loss=run.run.loss, name=run.name
        )
