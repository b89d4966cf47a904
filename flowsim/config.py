"""What a run on the command line consists of, and reading it from a TOML file.

The same options come from three places, the later ones first: the command line,
a TOML file, the defaults below. A TOML file has the tables ``[data]``, ``[init]``
and ``[run]`` with the fields of the three dataclasses as keys (``-`` and ``_``
alike), and in ``[data]`` either ``source`` (a named system, or a CSV or NPZ file
beside the TOML file) or the data themselves: ``X`` and ``y``, or ``x`` and ``y``
for univariate data. Its decimals are kept exact: 0.1 there is 1/10.
"""

from __future__ import annotations

import difflib
import inspect
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from tyro.conf import OmitArgPrefixes, Positional, Suppress, arg

if TYPE_CHECKING:
    from flowsim.data import Dataset
    from flowsim.network import TwoLayerReLU

DEFAULT_SCALE = 1e-6

# tyro would show the type of an optional number as {None}|INT and its default as None.
OptionalInt = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
OptionalFloat = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]
OptionalText = Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")]
OptionalPath = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]


@dataclass(frozen=True)
class DataOptions:
    """Options of the generators and of CSV files."""

    n: OptionalInt = None
    """Number of samples that a generator draws."""
    d: OptionalInt = None
    """Input dimension of a generator."""
    noise: OptionalFloat = None
    """Standard deviation of a generator's label noise."""
    inputs: Annotated[
        Literal["gaussian", "symmetric"] | None,
        arg(metavar="{gaussian,symmetric}", help_behavior_hint=""),
    ] = None
    """Input distribution of linear-teacher."""
    q: OptionalInt = None
    """Number of input directions of half-spaces."""
    seed: Annotated[
        int | None, arg(name="data-seed", metavar="INT", help_behavior_hint="(default: 0)")
    ] = None
    """Seed of a generator."""
    target: OptionalText = None
    """Label column of a CSV file, by name (default: the last one)."""
    bias: Annotated[bool, arg(help_behavior_hint="")] = False
    """Append a constant input 1 to the columns of a CSV file."""
    X: Suppress[Any] = None
    x: Suppress[Any] = None
    y: Suppress[Any] = None


@dataclass(frozen=True)
class InitOptions:
    """Options of the initial network."""

    m: int = 200
    """Number of neurons."""
    scale: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="(default: 1e-06)")] = (
        None
    )
    """Scale λ of the initial parameters, which are of size λ/√m."""
    log10_scale: OptionalFloat = None
    """log10 of the scale, instead of it: for scales below 1e-308."""
    kind: Annotated[
        Literal["balanced", "dominated", "unbalanced", "mirrored"], arg(name="init")
    ] = "balanced"
    """Kind of initialisation."""
    seed: int = 0
    """Seed of the initialisation."""
    negative_slope: float = 0.0
    """Slope of the activation on its negative side, in [0, 1): 0 is ReLU."""


@dataclass(frozen=True)
class RunOptions:
    """Options of the integration and its output."""

    t1: OptionalFloat = None
    """Time to stop at (default: when the flow is stationary)."""
    rtol: OptionalFloat = None
    """Relative tolerance of the integration."""
    stationary_rtol: OptionalFloat = None
    """Relative size of the rates below which the flow counts as stationary."""
    loss: Literal["half_mean", "mean"] = "half_mean"
    """(1/2n) Σ r² or (1/n) Σ r², whose flow runs twice as fast."""
    residual: Literal["full", "frozen"] = "full"
    """frozen keeps r = y: the linearised flow of early alignment."""
    max_steps: OptionalInt = None
    """Number of steps to give up after."""
    max_seconds: OptionalFloat = None
    """Seconds of computing time to give up after."""
    output: OptionalPath = None
    """Folder of the results; files in it are replaced (default: a new one below runs)."""


@dataclass(frozen=True)
class RunConfig:
    """Integrate the gradient flow of a network and save what happened.

    Writes run.nc, timeline.png and, for data in the plane, directions.png and
    function.png, and prints a summary.
    """

    source: Annotated[Positional[str], arg(metavar="NAME|FILE.toml|DATA.csv")]
    """A named system (three-points, orthogonal-pair, five-points, ...), a TOML file
    with the tables [data], [init] and [run], or data in a CSV or NPZ file."""
    data: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    init: OmitArgPrefixes[InitOptions] = field(default_factory=InitOptions)
    run: OmitArgPrefixes[RunOptions] = field(default_factory=RunOptions)
