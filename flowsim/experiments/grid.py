"""The grid of a study: its axes, checked, and the points that it consists of."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowsim._arguments import one_of, real, whole
from flowsim.experiments.points import NETWORK_SEED, Point
from flowsim.experiments.words import engine_of
from flowsim.init import KINDS
from flowsim.inputs import DISTRIBUTIONS

#: In the order of the results' dimensions.
AXES = (
    "n", "d", "noise", "inputs", "m", "scale", "log10_scale", "init", "activation",
    "negative_slope", "engine", "seed",
)  # fmt: skip
_WHOLE = {"n": 1, "d": 1, "m": 1, "seed": 0}
_LARGEST = 2**31
_LARGEST_NOISE = 1e100
_REAL = ("noise", "scale", "log10_scale", "negative_slope")
_SMOOTH = ("gelu", "gelu_tanh", "softplus", "tanh", "squared_relu")
_WORDS = {"inputs": tuple(DISTRIBUTIONS), "init": tuple(KINDS), "activation": ("relu", *_SMOOTH)}


@dataclass(frozen=True)
class Grid:
    """Axes of a study: each a tuple of values, all in one order.

    Attributes
    ----------
    axes : dict
        Every name of `AXES` that applies with its values.
    dims : tuple of str
        Those that were given as sequences: the dimensions of the results.
    engines : dict
        Engines by the names on the axis `engine`, where these are no words of flowsim's.
    """

    axes: dict[str, tuple[Any, ...]]
    dims: tuple[str, ...]
    engines: dict[str, Any]

    @staticmethod
    def of(given: Mapping[str, Any]) -> Grid:
        """Check axes, each a value or a sequence of values.

        Raises
        ------
        ValueError, TypeError
            One sentence about the first that makes no sense.
        """
        given = dict(given)
        engines = _named_engines(given)
        if given.get("log10_scale") is not None:
            if given.get("scale") is not None:
                raise ValueError(
                    "Argument `scale` must not be given with log10_scale, but both are."
                )
            given["scale"] = None
        elif given.get("scale") is None:
            given["scale"] = 1e-6
        axes, dims = {}, []
        for name in AXES:
            value = given.get(name)
            if value is None:
                continue
            several = isinstance(value, Iterable) and not isinstance(value, str)
            entries = tuple(value) if several else (value,)
            axes[name] = tuple(_checked(name, entry, engines) for entry in entries)
            _check_values(name, axes[name])
            if several:
                dims.append(name)
        grid = Grid(axes, tuple(dims), engines)
        _check_together(grid)
        return grid

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the results' dimensions."""
        return tuple(len(self.axes[name]) for name in self.dims)

    def points(self) -> list[Point]:
        """Return all points, the last dimension first to change."""
        none = {"scale": None, "log10_scale": None}
        return [
            Point(**{**none, **dict(zip(self.axes, values, strict=True))})
            for values in itertools.product(*self.axes.values())
        ]


def _named_engines(given: dict[str, Any]) -> dict[str, Any]:
    """Take a mapping of engines out of `given`, and leave their names."""
    engine = given.get("engine")
    if not isinstance(engine, Mapping):
        return {}
    from flowsim import engines

    kinds = (engines.Piecewise, engines.Diffrax, engines.Scipy, engines.Descent)
    for name, value in engine.items():
        if not isinstance(name, str) or not isinstance(value, kinds):
            raise TypeError(
                f"Argument `engine` must map names to engines of flowsim.engines, but has "
                f"{name!r}: {type(value).__name__}."
            )
    given["engine"] = tuple(engine)
    return dict(engine)


def _checked(name: str, value: Any, engines: Mapping[str, Any]) -> Any:
    """Return one value of an axis as a plain number or word."""
    if name in _WHOLE:
        return whole(name, value, _WHOLE[name])
    if name in _REAL:
        number = real(name, value)
        if name == "noise" and not 0.0 <= number <= _LARGEST_NOISE:
            raise ValueError(
                f"Argument `noise` must be finite and at least 0, at most {_LARGEST_NOISE:g}, but "
                f"is {number}."
            )
        return number
    if name in _WORDS:
        return one_of(name, value, _WORDS[name])
    if value not in engines:
        engine_of(value)
    return str(value)


def _check_values(name: str, values: tuple[Any, ...]) -> None:
    if not values:
        raise ValueError(f"Argument `{name}` must have at least one value, but has none.")
    if len(set(values)) < len(values):
        raise ValueError(f"Argument `{name}` must have distinct values, but has {list(values)}.")
    if name in _WHOLE and name != "seed" and max(values) >= _LARGEST:
        raise ValueError(f"Argument `{name}` must be below 2^31, but has {max(values)}.")
    if name == "seed" and max(values) >= NETWORK_SEED:
        raise ValueError(
            f"Argument `seed` must be below 2^31, where the networks' seeds begin, but has "
            f"{max(values)}."
        )


def _check_together(grid: Grid) -> None:
    """Draw a network of every kind, so that nonsense is found before all runs."""
    from flowsim.engines import Piecewise

    odd = [n for n in grid.axes["n"] if n % 2]
    if "symmetric" in grid.axes["inputs"] and odd:
        raise ValueError(f"Argument `n` must be even for symmetric inputs, but has {odd[0]}.")
    for point in {replace(p, n=1, d=1, noise=0.0, seed=0) for p in grid.points()}:
        point.network()
        engine = (
            grid.engines[point.engine] if point.engine in grid.engines else engine_of(point.engine)
        )
        relu_only = (
            isinstance(engine, Piecewise) or getattr(engine, "coordinates", "") == "log_norm"
        )
        if point.activation != "relu" and relu_only:
            raise ValueError(
                f"Argument `engine` must be diffrax, scipy or a descent for the activation "
                f"{point.activation}, but it is {point.engine}."
            )
