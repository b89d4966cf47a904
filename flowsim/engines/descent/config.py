"""Discrete descent as an option of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flowsim._arguments import flag, one_of, real, whole

#: Optimizers by name, and what they are.
OPTIMIZERS = {
    "gd": "gradient descent",
    "momentum": "heavy ball",
    "nesterov": "Nesterov's accelerated gradient",
    "adam": "Adam",
}
DTYPES = ("float64", "float32")
COORDINATES = ("weights", "log_norm")
#: Steps and seeds are 64-bit integers, in compiled code and in files.
LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Descent:
    """Take discrete steps down the loss, instead of following its flow.

        theta_{k+1} = theta_k - eta_k u_k,     u_k = grad L(theta_k) for gradient descent.

    Time is ``t_k = sum_{i<k} eta_i`` in the normalisation of the run's loss, so that gradient
    descent is the explicit Euler method of the flow. With momentum mu time counts what a constant
    gradient moves the weights by: ``eta (1 - mu^(k+1)) / (1 - mu)`` in step k, for Nesterov's
    gradient ``eta (1 - mu^(k+2)) / (1 - mu)``. Adam's time is the sum of its learning rates, which
    is no time of the gradient flow.

    Parameters
    ----------
    optimizer : str or optax.GradientTransformation
        "gd"; "momentum": ``u_k = grad L + mu u_{k-1}``; "nesterov": ``grad L + mu v_k`` with
        that v; "adam". Or any transformation of optax, with its learning rate inside.
    learning_rate : float or callable
        eta, or a schedule: a function of the step, written with JAX, such as optax's. For a
        transformation of optax it is what time counts, and its length of a first step along a
        gradient of ones if it is left out. That is not the rate where the transformation clips
        gradients, and none where it warms up from 0: then give its rate, or its schedule.
    steps : int, optional
        Number of steps to take; by default as many as it takes to come to rest or to `t1`. A
        smaller `max_steps` of `simulate` ends the run before. The step that reaches `t1` is the
        last one, and may pass it.
    momentum : float
        mu of "momentum" and "nesterov", in [0, 1).
    b1, b2, eps : float
        Of Adam.
    batch_size : int, optional
        Samples in a step's gradient: every epoch goes through the data once in an order drawn
        anew. By default all.
    seed : int
        Of these orders.
    dtype : {"float64", "float32"}
        What steps are computed in. Losses and verdicts are those of the same weights in float64.
    coordinates : {"weights", "log_norm"}
        "log_norm" descends in the direction of ``w_j`` and ``ln(|a_j| + ||w_j||)``, and takes both
        from the conserved ``a_j^2 - ||w_j||^2``. Then nothing changes the sign of a that the flow
        does not. For two-layer ReLU networks and "gd".
    patterns : bool
        Look for changes of activation patterns after every step.

    Notes
    -----
    At a kink the derivative of ReLU is 0.

    References
    ----------
    Polyak 1964; Nesterov 1983; Kingma & Ba 2015, arXiv:1412.6980.
    """

    optimizer: Any = "gd"
    learning_rate: float | Callable[[Any], Any] | None = None
    steps: int | None = None
    momentum: float = 0.9
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    batch_size: int | None = None
    seed: int = 0
    dtype: str = "float64"
    coordinates: str = "weights"
    patterns: bool = True

    def __post_init__(self) -> None:
        _check_optimizer(self.optimizer, self.learning_rate)
        set_field = object.__setattr__  # the class is frozen; files take plain numbers only
        if self.learning_rate is not None and not callable(self.learning_rate):
            set_field(self, "learning_rate", float(self.learning_rate))
        for name, low in (("steps", 0), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) is not None or name == "seed":
                set_field(self, name, _integer(name, getattr(self, name), low))
        for name in ("momentum", "b1", "b2"):
            value = real(name, getattr(self, name))
            if not 0.0 <= value < 1.0:
                raise ValueError(f"Argument `{name}` must be in [0, 1), but is {value}.")
            set_field(self, name, value)
        set_field(self, "eps", real("eps", self.eps))
        if not 0.0 < self.eps < float("inf"):
            raise ValueError(f"Argument `eps` must be positive and finite, but is {self.eps}.")
        set_field(self, "dtype", one_of("dtype", self.dtype, DTYPES))
        set_field(self, "coordinates", one_of("coordinates", self.coordinates, COORDINATES))
        set_field(self, "patterns", flag("patterns", self.patterns))
        if self.coordinates == "log_norm" and self.batch_size is not None:
            raise ValueError(
                'Argument `batch_size` must be None with coordinates="log_norm", but is '
                f"{self.batch_size}."
            )
        if self.coordinates == "log_norm" and self.optimizer != "gd":
            raise ValueError(
                'Argument `coordinates` must be "weights" but for plain gradient descent, '
                'but is "log_norm".'
            )

    @property
    def name(self) -> str:
        """The optimizer's name, "optax" for a transformation."""
        return self.optimizer if isinstance(self.optimizer, str) else "optax"

    def settings(self) -> dict[str, Any]:
        """Return what a run's settings say of this engine: plain numbers and words."""
        rate = self.learning_rate
        plain = {
            "engine": "descent",
            "solver": self.name,
            "learning_rate": "schedule" if callable(rate) else -1.0 if rate is None else rate,
            "steps": -1 if self.steps is None else self.steps,
            "batch_size": -1 if self.batch_size is None else self.batch_size,
            "patterns": int(self.patterns),
        }
        names = ("momentum", "b1", "b2", "eps", "seed", "dtype", "coordinates")
        return {**plain, **{name: getattr(self, name) for name in names}}

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Descent:
        """Return the engine that `settings` tell of.

        Raises
        ------
        TypeError
            If they do not tell all of it.
        """
        if settings["solver"] == "optax" or settings["learning_rate"] == "schedule":
            raise TypeError(
                "Argument `engine` must be given for a descent by an optax optimizer or with a "
                "schedule, of which files know no more than that, but is None."
            )
        names = ("learning_rate", "momentum", "b1", "b2", "eps", "seed", "dtype", "coordinates")
        optional: dict[str, Any] = {
            name: int(settings[name]) for name in ("steps", "batch_size") if settings[name] >= 0
        }
        return cls(
            settings["solver"],
            patterns=bool(settings["patterns"]),
            **{name: settings[name] for name in names},
            **optional,
        )


def _integer(name: str, value: Any, low: int) -> int:
    number = whole(name, value, low)
    if number > LARGEST:
        raise ValueError(f"Argument `{name}` must be below 2^63, but is {number}.")
    return number


def _check_optimizer(optimizer: Any, rate: Any) -> None:
    if isinstance(optimizer, str):
        one_of("optimizer", optimizer, OPTIMIZERS)
    elif not (callable(getattr(optimizer, "init", None)) and callable(optimizer.update)):
        raise TypeError(
            "Argument `optimizer` must be a name or a transformation of optax, but is of type "
            f"{type(optimizer).__name__}."
        )
    if rate is None and isinstance(optimizer, str):
        raise TypeError(
            f"Argument `learning_rate` must be given with the optimizer {optimizer!r}, but is None."
        )
    if callable(rate):
        from flowsim.engines.descent.schedule import check_schedule

        check_schedule(rate)
    elif rate is not None:
        value = real("learning_rate", rate)
        if not 0.0 < value < float("inf"):
            raise ValueError(
                f"Argument `learning_rate` must be positive and finite, but is {value}."
            )
