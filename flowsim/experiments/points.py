"""One run of a study: what it is made of, and how it can be made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from flowsim import datasets, init
from flowsim._version import __version__
from flowsim.experiments.words import engine_of

if TYPE_CHECKING:
    from flowsim.data import Dataset
    from flowsim.solution import Solution

#: Raised when records get other fields, so that stored ones are made again.
RECORD_FORMAT = 1
#: The network of a run is drawn with this added to the run's seed: with the very seed of the data,
#: its neurons would be multiples of the inputs.
NETWORK_SEED = 2**31
_DRAWN = ("n", "d", "noise", "seed", "inputs")


@dataclass(frozen=True)
class Point:
    """A run of a study, by the values of all axes.

    Attributes
    ----------
    n, d : int
        Number of samples, input dimension.
    noise : float
        Standard deviation of the labels' noise.
    inputs : str
        Distribution of the inputs, of `flowsim.inputs`.
    m : int
        Number of neurons.
    scale : float, or log10_scale : float
        λ; the other one is None.
    init : str
        Kind of initialisation, of `flowsim.init`.
    activation : str
        relu, or a smooth one of `flowsim.models`.
    negative_slope : float
        Of relu.
    engine : str
        What integrates: see `flowsim.experiments.words`.
    seed : int
        Of the data; the network's is ``seed + 2**31``.
    """

    n: int
    d: int = 5
    noise: float = 0.5
    inputs: str = "gaussian"
    m: int = 200
    scale: float | None = 1e-6
    log10_scale: float | None = None
    init: str = "balanced"
    activation: str = "relu"
    negative_slope: float = 0.0
    engine: str = "piecewise"
    seed: int = 0

    def network(self, d: int | None = None) -> Any:
        """Return the initial network, a model for smooth activations.

        Raises
        ------
        ValueError, TypeError
            As `flowsim.init` and `flowsim.models.TwoLayer` do.
        """
        net = init.get(self.init)(
            self.m,
            self.d if d is None else d,
            self.scale,
            self.seed + NETWORK_SEED,
            log10_scale=self.log10_scale,
            negative_slope=self.negative_slope,
        )
        if self.activation == "relu":
            return net
        from flowsim.models import TwoLayer

        return TwoLayer.of(net, self.activation)

    @property
    def cost(self) -> float:
        """A rough measure of how long the run takes, to begin with long ones."""
        return 1e4 + float(self.n) * self.m


@dataclass(frozen=True)
class Recipe:
    """What all runs of a study have in common.

    Attributes
    ----------
    options : dict
        Of `flowsim.simulate`.
    data : callable, optional
        ``data(n=, d=, noise=, seed=, inputs=)`` instead of `flowsim.datasets.linear_teacher`.
    test : callable, optional
        ``test(data)`` gives the test set of a run with this data, a Dataset without noise.
    engines : mapping
        Engines under the names that the study gives them.
    trajectories : bool
        Keep times and losses of every run.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    data: Callable[..., Dataset] | None = None
    test: Callable[[Dataset], Dataset] | None = None
    engines: Mapping[str, Any] = field(default_factory=dict)
    trajectories: bool = False

    def key(self, point: Point) -> str:
        """Return a name for the record of a run: a hash of all that determines it."""
        what = {
            "point": asdict(point),
            "options": dict(self.options),
            "data": _name_of(self.data),
            "test": _name_of(self.test),
            "engine": repr(self.engines[point.engine]) if point.engine in self.engines else "",
            "trajectories": self.trajectories,
            "format": RECORD_FORMAT,
            "flowsim": __version__,
        }
        text = json.dumps(what, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def own_code(self) -> str:
        """Names of the functions and engines that are the study's own."""
        names = [_name_of(self.data), _name_of(self.test), *self.engines]
        return ", ".join(name for name in names if name)

    def dataset(self, point: Point) -> Dataset:
        """Draw the training data of a run."""
        make = datasets.linear_teacher if self.data is None else self.data
        return make(**{name: getattr(point, name) for name in _DRAWN})

    def engine(self, point: Point) -> Any:
        """Return what integrates a run."""
        if point.engine in self.engines:
            return self.engines[point.engine]
        return engine_of(point.engine)

    def simulate(self, point: Point, **options: Any) -> Solution:
        """Run one point of the study as `flowsim.simulate` does; `options` override the study's."""
        from flowsim.simulate import simulate

        data = self.dataset(point)
        # Test losses are those of final states: where the flow goes must have been reached.
        given = {"end": "rest", **self.options, **options}
        return simulate(point.network(data.d), data, engine=self.engine(point), **given)


def _name_of(function: Callable[..., Any] | None) -> str:
    return "" if function is None else f"{function.__module__}.{function.__qualname__}"
