"""From the options of a command to data, a model and the arguments of a run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowsim.config import (
    DEFAULT_SCALE,
    DataOptions,
    InitOptions,
    RunConfig,
    RunOptions,
    suggestion,
)

if TYPE_CHECKING:
    from flowsim.config_alignment import AlignConfig, ExtremalConfig
    from flowsim.config_compare import CompareConfig
    from flowsim.data import Dataset
    from flowsim.network import TwoLayerReLU

#: Options of the network that may come with weights given as numbers.
_WITH_WEIGHTS = ("negative_slope", "activation", "beta")
_DATA_OPTIONS = {item.name for item in fields(DataOptions)} - {"X", "x", "y"}


def build_data(config: RunConfig | ExtremalConfig | AlignConfig | CompareConfig) -> Dataset:
    """Return the data that a command is about.

    Raises
    ------
    OSError
        If a file cannot be read.
    TypeError, ValueError
        If there is no such system or file, an option does not apply to it, or the data
        make no sense.
    """
    from flowsim import datasets
    from flowsim.data import Dataset

    options = config.data
    given = {
        item.name: getattr(options, item.name)
        for item in fields(options)
        if getattr(options, item.name) != item.default
    }
    if not config.source:
        _check_applies(given, ("X", "x", "y"), "data in the TOML file")
        if options.X is not None and options.x is not None:
            raise ValueError("The data must be given as X and y or as x and y, but X and x are.")
        make: Any = Dataset.univariate if options.X is None else Dataset
        return make(options.x or options.X, options.y, name=config.label)
    name = config.source.replace("_", "-")
    if name in datasets.NAMES:
        generator = datasets.NAMES[name]
        parameters = inspect.signature(generator).parameters
        _check_applies(given, parameters, name)
        needed = [key for key, item in parameters.items() if item.default is item.empty]
        for key in needed:
            if key not in given:
                raise ValueError(f"Option {_option(key)} must be given with {name}, but is not.")
        return generator(**given)
    path = Path(config.source)
    if path.suffix.lower() == ".csv":
        _check_applies(given, ("target", "bias"), "a CSV file")
        return Dataset.from_csv(path, **given)
    if path.suffix.lower() == ".npz" or path.is_file():
        _check_applies(given, (), "an NPZ file")
        return Dataset.from_file(path)
    known = ", ".join(datasets.NAMES)
    raise ValueError(
        f"The data must be a CSV, NPZ or TOML file or one of {known}, but {config.source!r} is none"
        f"{suggestion(name, datasets.NAMES)}."
    )


def build_network(options: InitOptions, d: int) -> TwoLayerReLU:
    """Return the initial network for inputs of dimension `d`.

    Raises
    ------
    TypeError, ValueError
        If the options make no sense, alone or together.
    """
    from flowsim import init

    slope = options.negative_slope
    if options.a is not None or options.W is not None:
        allowed = {name: getattr(options, name) for name in _WITH_WEIGHTS}
        if replace(options, a=None, W=None) != InitOptions(**allowed):
            raise ValueError(
                f"Weights a and W must come with no other option than {', '.join(_WITH_WEIGHTS)}."
            )
        return init.from_arrays(_floats(options.a, "a"), _floats(options.W, "W"), slope)
    scale = options.scale
    if scale is None and options.log10_scale is None:
        scale = DEFAULT_SCALE
    return init.get(options.kind)(
        options.m,
        d,
        scale,
        options.seed,
        log10_scale=options.log10_scale,
        negative_slope=slope,
    )


def build_model(options: InitOptions, d: int) -> Any:
    """Return what is trained: a TwoLayerReLU, or a TwoLayer with another activation.

    Raises
    ------
    TypeError, ValueError
        If the options make no sense, alone or together.
    """
    if options.beta is not None and options.activation != "softplus":
        raise ValueError("Option --beta must be given with --activation softplus only.")
    net = build_network(options, d)
    if options.activation == "relu":
        return net
    if net.negative_slope:
        raise ValueError(
            "Option --negative-slope must be given with --activation relu only, but the activation "
            f"is {options.activation}."
        )
    from flowsim.models import TwoLayer

    return TwoLayer.of(net, options.activation, beta=options.beta)


def build_engine(options: RunOptions) -> Any:
    """Return the engine that was asked for, or None.

    Raises
    ------
    ValueError
        If there is no such solver.
    """
    from flowsim import engines

    if options.engine in (None, "piecewise"):
        return _piecewise(options)
    if options.coalesce is not None:
        raise ValueError("Option --coalesce must be given with --engine piecewise only.")
    kind = engines.Diffrax if options.engine == "diffrax" else engines.Scipy
    if options.solver is None:
        return kind()
    try:
        return kind(options.solver)  # type: ignore[arg-type]
    except ValueError as error:
        text = re.sub("^Argument `(method|solver)`", "Option --solver", str(error))
        raise ValueError(
            text.replace("must be", f"with --engine {options.engine} must be")
        ) from None


def _piecewise(options: RunOptions) -> Any:
    """Return the default engine with its options, or None without any."""
    from flowsim.engines import Piecewise

    if options.solver is not None and options.engine is None:
        raise ValueError(
            "Option --solver must be given with --engine diffrax or scipy, but there is none."
        )
    if options.solver is not None:
        raise ValueError("Option --solver must not be given with --engine piecewise.")
    if options.coalesce is not None:
        return Piecewise(coalesce=options.coalesce)
    return None if options.engine is None else Piecewise()


def check_together(config: RunConfig) -> None:
    """Check options of different tables that exclude each other.

    Raises
    ------
    ValueError
        If they do.
    """
    if config.run.engine == "piecewise" and config.init.activation != "relu":
        raise ValueError(
            "Option --engine must be diffrax or scipy with --activation "
            f"{config.init.activation}, but is piecewise."
        )
    if config.run.coalesce is not None and config.init.activation != "relu":
        raise ValueError("Option --coalesce must be given with --activation relu only.")


def simulate_arguments(options: RunOptions) -> dict[str, Any]:
    """Return the keyword arguments of `flowsim.simulate` that were given."""
    given = {item.name: getattr(options, item.name) for item in fields(options)}
    own = ("output", "engine", "solver", "coalesce", "checkpoint")
    arguments = {key: value for key, value in given.items() if key not in own and value is not None}
    return {**arguments, "engine": build_engine(options)}


def _floats(values: Any, name: str) -> Any:
    """Return nested lists of integers and Decimals as floats."""
    if isinstance(values, list):
        return [_floats(value, name) for value in values]
    if isinstance(values, int | Decimal) and not isinstance(values, bool):
        return float(values)
    raise ValueError(f"The weights {name} in [init] must be lists of numbers, but hold {values!r}.")


def _check_applies(given: dict[str, Any], allowed: Iterable[str], what: str) -> None:
    allowed = list(allowed)
    for name in given:
        if name not in allowed:
            others = ", ".join(_option(key) for key in allowed if key in _DATA_OPTIONS)
            raise ValueError(
                f"Option {_option(name)} must not be given with {what}, which takes "
                f"{others or 'no options'}."
            )


def _option(name: str) -> str:
    """Return how an option of `DataOptions` is spelt on the command line."""
    return "--data-seed" if name == "seed" else f"--{name}"
