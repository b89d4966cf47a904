"""What ``flowsim threshold`` consists of, and reading it from a TOML file.

A TOML file has the table ``[study]`` with the fields of `ThresholdConfig` as keys (``-`` and ``_``
alike); axes are numbers or words, or lists of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from tyro.conf import Positional, Suppress, arg

from flowsim.config import (
    OptionalFloat,
    OptionalInt,
    OptionalPath,
    OptionalText,
    check_known,
    checked,
    normalised,
    read_tables,
)

Wholes = Annotated[tuple[int, ...], arg(metavar="INT [INT ...]", help_behavior_hint="")]
Reals = Annotated[tuple[float, ...], arg(metavar="FLOAT [FLOAT ...]", help_behavior_hint="")]
Words = Annotated[tuple[str, ...], arg(metavar="WORD [WORD ...]", help_behavior_hint="")]
#: Not part of what a study is: they leave its folder's name as it is.
_HOW = ("source", "workers", "scheduler", "shard", "output", "name")


@dataclass(frozen=True)
class ThresholdConfig:
    """Find from how many samples on small-initialisation networks stop to interpolate.

    Runs the flow on data of a linear teacher for every combination of the axes, in parallel.
    Writes threshold.nc and threshold.png and prints a table. The same command goes on where it
    was cut off.
    """

    source: Annotated[
        Positional[str], arg(metavar="[FILE.toml]", help_behavior_hint="(optional)")
    ] = ""
    """A TOML file with the table [study], which has these options as keys."""
    quick: Annotated[bool, arg(help_behavior_hint="")] = False
    """A study of minutes: n up to 200, 5 seeds, one noise."""
    n: Wholes = ()
    """Numbers of samples (default: 15 from 5 to 2000; quick: 7 from 5 to 200)."""
    d: Wholes = ()
    """Input dimensions (default: 5)."""
    noise: Reals = ()
    """Standard deviations of the labels' noise (default: 0.5 1; quick: 0.5)."""
    seeds: OptionalInt = None
    """Number of seeds, 0, 1, ... (default: 10; quick: 5). The network's seeds are 2^31 larger."""
    m: Wholes = ()
    """Numbers of neurons (default: 200)."""
    scale: Reals = ()
    """Scales λ of the initialisation (default: 1e-6)."""
    log10_scale: Reals = ()
    """log10 of the scales, instead of them."""
    init: Words = ()
    """Kinds of initialisation: balanced, dominated, unbalanced, mirrored (default: balanced)."""
    inputs: Words = ()
    """Distributions of inputs: gaussian, symmetric, sphere, uniform (default: gaussian)."""
    activation: Words = ()
    """Activation functions: relu, gelu, softplus, tanh, ... (default: relu)."""
    negative_slope: Reals = ()
    """Slopes of relu on its negative side (default: 0)."""
    engine: Words = ()
    """What integrates: piecewise, diffrax:SOLVER, scipy:SOLVER, or a descent: gd:LEARNING_RATE,
    momentum:..., nesterov:..., adam:..., log_norm:... (default: piecewise)."""
    lazy: OptionalFloat = None
    """A large scale, as 10, from which the same data are fitted as well."""
    interpolation_rtol: OptionalFloat = None
    """Part of the labels' loss below which a training loss is interpolation (default: 1e-6)."""
    t1: OptionalFloat = None
    """Time to stop at (default: when the flow is stationary)."""
    rtol: OptionalFloat = None
    """Relative tolerance of the integration."""
    stationary_rtol: OptionalFloat = None
    """Relative size of the rates below which the flow counts as stationary."""
    max_steps: OptionalInt = None
    """Number of steps to give a run up after."""
    trajectories: Annotated[bool, arg(help_behavior_hint="")] = False
    """Keep times and losses of all runs."""
    workers: OptionalInt = None
    """Processes on this machine, 0 for this one only (default: as many as cores)."""
    scheduler: OptionalText = None
    """Address of a Dask scheduler, instead of workers on this machine."""
    shard: OptionalInt = None
    """Number of runs that are made and written together (default: 1 up to 1000 runs)."""
    output: OptionalPath = None
    """Folder of the results, and of the runs made so far: give that of a study to extend it
    (default: one below runs, named after all options of the study)."""
    name: Suppress[str] = ""

    @property
    def label(self) -> str:
        """A name for the folder: the same for the same study, another one for another."""
        what = {key: value for key, value in asdict(self).items() if key not in _HOW}
        digest = hashlib.sha256(repr(sorted(what.items())).encode()).hexdigest()[:6]
        return f"{self.name or 'threshold'}-{digest}"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `flowsim.threshold`, those that are given."""
        own = ("source", "name", "output", "seeds", "scheduler")
        given = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in vars(self).items()
            if key not in own and not (value is None or value is False or value == ())
        }
        for key in ("d", "m", "scale", "log10_scale", "init", "inputs", "activation",
                    "negative_slope", "engine"):  # fmt: skip
            if len(given.get(key, ())) == 1:  # no dimension of the results
                given[key] = given[key][0]
        if self.seeds is not None:
            given["seed"] = range(self.seeds)
        if self.scheduler is not None:
            given["client"] = self.scheduler
        return given


def read_study(path: Path) -> ThresholdConfig:
    """Read a study from a TOML file.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not TOML, or has an unknown table or key, or a value of a wrong type.
    """
    tables = read_tables(path, ("study",))
    table = normalised(tables.get("study", {}))
    types = get_type_hints(ThresholdConfig)
    known = [key for key in types if key not in ("source", "name")]
    for key in table:
        check_known(key, known, f"Table [study] of file {path} must have only the keys", "a key")
    values = {
        key: _value(value, types[key], f"`{key}` in [study] of file {path}")
        for key, value in table.items()
    }
    return ThresholdConfig(source=str(path), name=path.stem, **values)


def _value(value: Any, hint: Any, what: str) -> Any:
    """Return a value as the type of its field, an axis as a tuple."""
    kinds = get_args(hint)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        entries = value if isinstance(value, list) else [value]
        if not entries:
            raise ValueError(f"The value of {what} must be at least one, but is [].")
        return tuple(checked(entry, kinds[0], what) for entry in entries)
    return checked(value, hint, what)
