"""Problems with exact solutions for the tests of the SciPy stepper."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flowsim.engines.problem import Advance, Knot, Steps
from flowsim.engines.scipy import ScipyStepper

#: What the errors of some hundred steps of rtol each may add up to, in units of rtol. Single
#: steps of BDF, LSODA and RK23 have errors like their estimates, those of the others smaller ones.
FACTOR = {"Radau": 0.1, "BDF": 100, "LSODA": 50, "DOP853": 2, "RK45": 10, "RK23": 40}


@dataclass(frozen=True)
class Spirals:
    """Units z_j' = (g_j + i w_j) z_j that know nothing of each other: z_j = exp(...) z_j(0)."""

    ends_at: float = np.inf  # it leaves when the first entry has passed this

    def field(self, t: Any, y: Any, args: Any) -> Any:
        growth, frequency = args
        turned = np.stack([-y[:, 1], y[:, 0]], axis=1)
        return growth[:, None] * y + frequency[:, None] * turned

    def jet(self, y: Any, args: Any) -> tuple[Any, Any]:
        f = self.field(0.0, y, args)
        return f, self.field(0.0, f, args)

    def size(self, y: Any, args: Any) -> Any:
        return np.linalg.norm(y, axis=1, keepdims=True)

    def observe(self, y: Any, f: Any, args: Any) -> dict[str, Any]:
        return {"square": np.sum(y * y), "speed": np.sum(f * f)}

    def leaves(self, before: Knot, after: Knot, h: Any, args: Any) -> Any:
        return after.y[0, 0] > self.ends_at

    def exact(self, y: np.ndarray, args: Any, t: float) -> np.ndarray:
        z = (y[:, 0] + 1j * y[:, 1]) * np.exp((args[0] + 1j * args[1]) * t)
        return np.stack([z.real, z.imag], axis=1)


@dataclass(frozen=True)
class Scalar:
    """y' = f(y) for one number, or each of several."""

    law: str

    def field(self, t: Any, y: Any, args: Any) -> Any:
        if self.law == "square":
            return y * y
        if self.law == "undefined below a half":
            return np.where(y > 0.5, -1.0, np.nan) * np.ones_like(y)
        if self.law == "rest":
            return np.zeros_like(y)
        if self.law == "too fast":
            return 1e200 * y**3
        if self.law == "undefined":
            return np.nan * y
        return -y

    def jet(self, y: Any, args: Any) -> tuple[Any, Any]:
        return self.field(0.0, y, args), np.zeros_like(y)

    def size(self, y: Any, args: Any) -> Any:
        return np.abs(y)

    def observe(self, y: Any, f: Any, args: Any) -> dict[str, Any]:
        return {}

    def leaves(self, before: Knot, after: Knot, h: Any, args: Any) -> Any:
        return False


@dataclass(frozen=True)
class Stiff:
    """A stiff system with a forgotten start, in JAX or NumPy, on a pytree {"slow", "fast"}.

    slow' = -slow, fast' = K (C slow - fast): fast = B slow with B = C K / (K - 1) for K rates.
    """

    traceable: bool = True

    @property
    def xp(self) -> Any:
        if not self.traceable:
            return np
        import jax.numpy as jnp

        return jnp

    def field(self, t: Any, y: Any, args: Any) -> Any:
        return {
            "slow": -y["slow"],
            "fast": args["K"] * (args["C"] @ y["slow"] - y["fast"]),
        }

    def jet(self, y: Any, args: Any) -> tuple[Any, Any]:
        f = self.field(0.0, y, args)
        return f, self.field(0.0, f, args)  # it is linear

    def size(self, y: Any, args: Any) -> Any:
        # (1,) and (), to be broadcast to (2,) and (3,)
        norm = {name: self.xp.sqrt(self.xp.sum(value**2)) for name, value in y.items()}
        return {"slow": norm["slow"].reshape(1), "fast": norm["fast"]}

    def observe(self, y: Any, f: Any, args: Any) -> dict[str, Any]:
        return {"slow": self.xp.sum(y["slow"])}

    def leaves(self, before: Knot, after: Knot, h: Any, args: Any) -> Any:
        return self.xp.all(after.y["slow"] < 0.0)


@dataclass(frozen=True)
class StiffWithFormula(Stiff):
    """The same with its Jacobian; leaves are in the order of their names."""

    calls: list[int] = field(default_factory=list, hash=False, compare=False)

    def jacobian(self, y: Any, args: Any) -> Any:
        self.calls.append(1)
        xp = self.xp
        top = xp.concatenate([-xp.diag(args["K"]), args["K"][:, None] * args["C"]], axis=1)
        return xp.concatenate([top, xp.concatenate([xp.zeros((2, 3)), -xp.eye(2)], axis=1)])


STIFF_ARGS = {"K": np.array([1e3, 2e4, 1e6]), "C": np.array([[1.0, 2.0], [0.5, -1], [3.0, 1.0]])}
STIFF_START = {"slow": np.array([1.0, 0.5])}
STIFF_START["fast"] = (
    STIFF_ARGS["K"] / (STIFF_ARGS["K"] - 1.0) * (STIFF_ARGS["C"] @ STIFF_START["slow"])
)
START = np.array([[0.6, 0.8], [1e-9, 2e-9], [0.3, -0.4]])
#: One unit shrinks by e^-15, one grows from far below, one only turns.
ARGS = (np.array([-3.0, 1.0, 0.0]), np.array([2.0, -1.0, 3.0]))


def integrate(
    stepper: ScipyStepper, problem: Any, y: Any, args: Any, span: float, chunk: int = 10**6
) -> list[Steps]:
    """Go over a span as a driver does, request by request."""
    answers, t = [], 0.0
    while t < span:
        answer = stepper.advance(Advance(problem, y, args, span - t, None, chunk))
        assert answer.failure == ""
        assert answer.t[0] == 0.0
        assert (np.diff(answer.t) > 0.0).all()
        answers.append(answer)
        y = last(answer.y)
        t = span if answer.t[-1] == span - t else t + answer.t[-1]
    return answers


def last(tree: Any) -> Any:
    return {k: v[-1] for k, v in tree.items()} if isinstance(tree, dict) else tree[-1]


def unit_errors(y: np.ndarray, exact: np.ndarray) -> np.ndarray:
    return np.linalg.norm(y - exact, axis=1) / np.linalg.norm(exact, axis=1)
