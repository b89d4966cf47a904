"""What a run on the command line consists of, and reading it from a TOML file.

The same options come from three places, the later ones first: the command line,
a TOML file, the defaults below. A TOML file has the tables ``[data]``, ``[init]``
and ``[run]`` with the fields of the three dataclasses as keys (``-`` and ``_``
alike), and in ``[data]`` either ``source`` (a named system, or a CSV or NPZ file
beside the TOML file) or the data themselves: ``X`` and ``y``, or ``x`` and ``y``
for univariate data. Its decimals are kept exact: 0.1 there is 1/10. ``[init]`` may
hold the weights themselves, ``a`` and ``W``. Unlike `source`, the folder `output` is
relative to where the command runs.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from tyro.conf import OmitArgPrefixes, Positional, Suppress, arg

if TYPE_CHECKING:
    pass

DEFAULT_SCALE = 1e-6
_UNIONS = (Union, UnionType)
TABLES = ("data", "init", "run")

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
        Literal["gaussian", "symmetric", "sphere", "uniform"] | None,
        arg(metavar="{gaussian,symmetric,sphere,uniform}", help_behavior_hint=""),
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
    activation: Annotated[
        Literal["relu", "gelu", "gelu_tanh", "softplus", "tanh", "squared_relu"],
        arg(metavar="{relu,gelu,gelu_tanh,softplus,tanh,squared_relu}"),
    ] = "relu"
    """Activation function. Others than relu run on the engines diffrax and scipy."""
    beta: OptionalFloat = None
    """Sharpness of softplus, ln(1 + exp(beta u))/beta (default: 1)."""
    a: Suppress[Any] = None
    W: Suppress[Any] = None


@dataclass(frozen=True)
class RunOptions:
    """Options of the integration and its output."""

    engine: Annotated[
        Literal["piecewise", "diffrax", "scipy"] | None,
        arg(metavar="{piecewise,diffrax,scipy}", help_behavior_hint=""),
    ] = None
    """What integrates (default: piecewise for relu, else diffrax): see docs/engines.md."""
    solver: OptionalText = None
    """Solver of diffrax (auto, Dopri8, Tsit5, Kvaerno5, ...) or of scipy (DOP853, Radau, ...)."""
    coalesce: OptionalFloat = None
    """Angle within which neurons go on as one, of piecewise; 0 for none (default: rounding)."""
    t1: OptionalFloat = None
    """Time to stop at (default: when what --end says has come)."""
    rtol: OptionalFloat = None
    """Relative tolerance of the integration."""
    stationary_rtol: OptionalFloat = None
    """Relative size of the rates below which the flow counts as stationary."""
    end: Annotated[
        Literal["certificate", "rest"] | None,
        arg(metavar="{certificate,rest}", help_behavior_hint=""),
    ] = None
    """What ends the run: a proof of where the flow goes (default without t1), or rest."""
    alignment: Literal["residual", "growth", "theory"] = "residual"
    """What ends the early alignment: see docs/alignment.md."""
    alignment_threshold: OptionalFloat = None
    """Relative departure of the residual from y, of residual (default: 0.001)."""
    alignment_epsilon: OptionalFloat = None
    """Part of ln(1/λ), of growth and theory (default: 0.25), and of the predicted time."""
    loss: Literal["half_mean", "mean"] = "half_mean"
    """(1/2n) Σ r² or (1/n) Σ r², whose flow runs twice as fast."""
    residual: Literal["full", "frozen"] = "full"
    """frozen keeps r = y: the linearised flow of early alignment."""
    max_steps: OptionalInt = None
    """Number of steps to give up after."""
    max_seconds: OptionalFloat = None
    """Seconds of computing time to give up after."""
    states: Annotated[
        Literal["all", "log", "ends"] | None,
        arg(metavar="{all,log,ends}", help_behavior_hint="(default: by their size)"),
    ] = None
    """States to store for dense output: of all steps, 32 a decade of time, start and end."""
    checkpoint: Annotated[float | None, arg(metavar="SECONDS", help_behavior_hint="")] = None
    """Save run.nc every so many seconds; flowsim resume goes on from it (default: at the end)."""
    output: OptionalPath = None
    """Folder of the results; files in it are replaced (default: a new one below runs)."""


@dataclass(frozen=True)
class RunConfig:
    """Integrate the gradient flow of a network and save what happened.

    Writes run.nc, timeline.png and, for ReLU and data in the plane, directions.png and
    function.png, and prints a summary.
    """

    source: Annotated[Positional[str], arg(metavar="NAME|FILE.toml|DATA.csv")]
    """A named system (three-points, orthogonal-pair, five-points, ...), a TOML file
    with the tables [data], [init] and [run], or data in a CSV or NPZ file."""
    data: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    init: OmitArgPrefixes[InitOptions] = field(default_factory=InitOptions)
    run: OmitArgPrefixes[RunOptions] = field(default_factory=RunOptions)
    name: Suppress[str] = ""

    @property
    def label(self) -> str:
        """A short name of the run for its folder: that of the system, or of the file."""
        return self.name or Path(self.source).stem.replace("_", "-")


@dataclass(frozen=True)
class ResumeConfig:
    """Go on with a run that was killed or interrupted, or that stopped at a limit.

    Its file must have been written by flowsim run with the engine piecewise. The file is replaced
    by that of the whole run, the pictures are drawn again, and a summary is printed.
    """

    path: Annotated[Positional[Path], arg(metavar="RUN.nc")]
    """The file of the run, or of its last checkpoint."""
    t1: OptionalFloat = None
    """Time to stop at, from the start of the run (default: that of the run)."""
    stationary_rtol: OptionalFloat = None
    """Relative size of the rates below which the flow counts as stationary (default: likewise)."""
    end: Annotated[
        Literal["certificate", "rest"] | None,
        arg(metavar="{certificate,rest}", help_behavior_hint=""),
    ] = None
    """What ends the run (default: likewise; rest after a run that a certificate has ended)."""
    max_steps: OptionalInt = None
    """Number of steps to give up after, from the start of the run (default: likewise)."""
    max_seconds: OptionalFloat = None
    """Seconds of computing time to give up after, from now on (default: likewise)."""
    checkpoint: Annotated[float | None, arg(metavar="SECONDS", help_behavior_hint="")] = None
    """Save the file every so many seconds (default: at the end)."""
    output: OptionalPath = None
    """Folder of the results (default: that of the run)."""


@dataclass(frozen=True)
class PlotConfig:
    """Draw the pictures of a saved run again."""

    path: Annotated[Positional[Path], arg(metavar="RUN.nc")]
    """A file that flowsim run has written."""
    output: OptionalPath = None
    """Folder of the pictures (default: that of the run)."""


def read_toml(path: Path) -> RunConfig:
    """Read a run's options from a TOML file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    RunConfig
        With `source` the named system or the file of the data, resolved against the
        folder of `path`, or "" where the file holds the data themselves.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not TOML, or has an unknown table or key, or a value of a wrong type.
    """
    tables = read_tables(path, TABLES)
    data = normalised(tables.get("data", {}))
    source = checked(data.pop("source", ""), str, f"`source` in [data] of file {path}")
    if not source and not ("y" in data and ("x" in data or "X" in data)):
        raise ValueError(
            f"File {path} must have a source, or X and y, or x and y in its table [data], "
            "but has none of them."
        )
    if (path.parent / source).is_file():
        source = str(path.parent / source)
    return RunConfig(
        source=source,
        data=_from_table(DataOptions, data, "data", path),
        init=_from_table(InitOptions, normalised(tables.get("init", {})), "init", path),
        run=_from_table(RunOptions, normalised(tables.get("run", {})), "run", path),
        name=path.stem,
    )


def read_tables(path: Path, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Read a TOML file that may have only some tables; decimals stay exact.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, is not TOML, or has others.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise type(error)(
            f"File {path} cannot be read: {(error.strerror or '').lower()}."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"File {path} is not valid TOML: {error}.") from None
    for name, table in tables.items():
        check_known(name, names, f"File {path} must have only the tables", "a table or key")
        if not isinstance(table, dict):
            raise ValueError(f"File {path} must have a table [{name}], but it is {table!r}.")
    return tables


def normalised(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table with underscores in its keys."""
    return {key.replace("-", "_"): value for key, value in table.items()}


def _from_table(cls: Any, table: dict[str, Any], name: str, path: Path) -> Any:
    """Build one of the option classes from a table of a TOML file."""
    types = get_type_hints(cls)
    for key in table:
        check_known(key, types, f"Table [{name}] of file {path} must have only the keys", "a key")
    where = f"in [{name}] of file {path}"
    return cls(**{key: checked(table[key], types[key], f"`{key}` {where}") for key in table})


def checked(value: Any, hint: Any, what: str) -> Any:
    """Return `value` of a TOML file as the type that a field is declared with.

    Raises
    ------
    ValueError
        If it is of another.
    """
    (kind,) = [
        h for h in (get_args(hint) if get_origin(hint) in _UNIONS else [hint]) if h is not NoneType
    ]
    number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if kind is Any:
        return value
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        wanted = f"one of {', '.join(get_args(kind))}"
    elif kind is float:
        if number:
            return float(value)
        wanted = "a number"
    elif kind is int:
        if number and isinstance(value, int):
            return value
        wanted = "a whole number"
    elif kind is bool:
        if isinstance(value, bool):
            return value
        wanted = "true or false"
    else:
        if isinstance(value, str):
            return kind(value)
        wanted = "a text"
    shown = str(value) if isinstance(value, Decimal) else repr(value)
    raise ValueError(f"The value of {what} must be {wanted}, but is {shown}.")


def check_known(name: str, known: Iterable[str], rule: str, what: str) -> None:
    """Check that a name in a file is one of those that there are."""
    known = list(known)
    if name not in known:
        raise ValueError(
            f"{rule} {', '.join(known)}, but {name!r} is {what} there{suggestion(name, known)}."
        )


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a question about the known word that is nearest, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
