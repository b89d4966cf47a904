"""The state of all neurons: normalised, with integer exponents, their cells and fates."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from flowsim._rows import largest, norms, squares
from flowsim.cells import EPS, TOUCH, Cells
from flowsim.events import ALIVE, ZERO
from flowsim.network import TwoLayerReLU

#: |a^2 - ||w||^2| below this part of a^2 + ||w||^2 is the rounding of a balanced start.
BALANCED = 8 * EPS


@dataclass(eq=False)
class State:
    """All neurons at one time.

    Neuron j is ``2**exponent[j] * z[j]`` with ``z[j] = (a_j, w_j)`` and norm in
    [1/2, 2), in the scaled units of `Cells`: tiny scales cost no digits.
    """

    z: np.ndarray  # (m, d+1) float64
    exponent: np.ndarray  # (m,) int64
    sign: np.ndarray  # (m,) int64, sign of a
    balance: np.ndarray  # (m,) int64, sign of a^2 - ||w||^2
    gap: np.ndarray  # (m,) float64 and
    gap_exponent: np.ndarray  # (m,) int64: a^2 - ||w||^2 = gap * 4**gap_exponent
    code: np.ndarray  # (m, G) int8
    fate: np.ndarray  # (m,) int64
    fresh: np.ndarray  # (m, G) bool, see detection.touching

    @classmethod
    def of(cls, network: TwoLayerReLU, cells: Cells) -> State:
        """Normalise `network`; cells of neurons on hyperplanes are left 0 for `select`."""
        z, exponent = _binary(network)
        zero = largest(z) == 0.0
        size, norm_w = squares(z), norms(z[:, 1:])
        gap = (np.abs(z[:, 0]) - norm_w) * (np.abs(z[:, 0]) + norm_w)
        gap[np.abs(gap) <= BALANCED * size] = 0.0
        margin = z[:, 1:] @ cells.normals.T
        code = np.sign(np.where(np.abs(margin) <= TOUCH * norm_w[:, None], 0.0, margin))
        exponent = exponent + cells.size_exponent
        return cls(
            z=z,
            exponent=exponent,
            sign=np.where(z[:, 0] < 0, -1, 1).astype(np.int64),
            balance=np.sign(gap).astype(np.int64),
            gap=gap,
            gap_exponent=exponent.copy(),
            code=code.astype(np.int8),
            fate=np.where(zero, ZERO, ALIVE).astype(np.int64),
            fresh=np.zeros(code.shape, dtype=np.bool_),
        )

    @property
    def mass(self) -> np.ndarray:
        """(m,) squared scale ``4**exponent`` of each neuron; underflows to 0 harmlessly."""
        # The bits of a power of two: many times faster than ldexp.
        power = 2 * self.exponent
        power += 1023
        np.clip(power, 0, 2046, out=power)
        power <<= 52
        return power.view(np.float64)

    def subset(self, rows: slice | np.ndarray) -> State:
        """Return an independent state of some of the neurons."""
        return State(**{f.name: getattr(self, f.name)[rows].copy() for f in fields(self)})

    def put(self, rows: np.ndarray, other: State) -> None:
        """Replace some of the neurons by those of another state."""
        for f in fields(self):
            getattr(self, f.name)[rows] = getattr(other, f.name)

    def copy(self) -> State:
        """Return an independent copy."""
        return State(**{f.name: getattr(self, f.name).copy() for f in fields(self)})

    def moving(self, room: tuple[np.ndarray, np.ndarray] | None = None) -> State:
        """Return a state for neurons that move, which shares all but z and exponents.

        These are in the arrays of `room`, if it is given, else in new ones, where those of the
        living have yet to be set.
        """
        z, exponent = room or (np.empty_like(self.z), np.empty_like(self.exponent))
        if np.any(self.fate != ALIVE):  # all at once takes less time than few here and there
            z[:], exponent[:] = self.z, self.exponent
        return replace(self, z=z, exponent=exponent)

    def adopt(self, moved: State) -> tuple[np.ndarray, np.ndarray]:
        """Take the neurons of a state that `moving` has made of this one; return its own arrays."""
        own = self.z, self.exponent
        self.z, self.exponent = moved.z, moved.exponent
        return own

    def settle(self) -> float:
        """Put every neuron back onto ``a^2 - ||w||^2 = const``, its norm into [1/2, 2).

        Steps of any method drift off the constant by their error, and a shrinking neuron
        would amplify that. The smaller of ``|a|`` and ``||w||`` is set from the larger, which
        amplifies nothing. Returns the largest relative correction of the constant.
        """
        live = np.flatnonzero(self.fate == ALIVE)
        z = self.z[live]
        aa, ww = z[:, 0] ** 2, squares(z[:, 1:])
        shift = np.clip(2 * (self.gap_exponent - self.exponent)[live], -2000, 1000)
        const = np.where(
            self.balance[live] == 0, 0.0, np.ldexp(self.gap[live], shift.astype(np.int32))
        )
        drift = np.abs(aa - ww - const) / (aa + ww)
        outer = self.balance[live] >= 0
        z[outer, 0] = (self.sign[live] * np.sqrt(np.maximum(ww + const, 0.0)))[outer]
        inner = ~outer & (ww > 0.0)
        z[inner, 1:] *= np.sqrt(np.maximum(aa - const, 0.0)[inner] / ww[inner])[:, None]
        self.z[live], up = normalised(z)
        self.exponent[live] += up
        return float(np.max(drift, initial=0.0))

    def network(self, like: TwoLayerReLU, cells: Cells) -> TwoLayerReLU:
        """Return the neurons in the user's units, with the slope of `like`."""
        return network_of(self.z, self.exponent - cells.size_exponent, like.negative_slope)


def normalised(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of norm in [1/2, 2), and the exponents (m,) of the powers of two taken out."""
    norm = norms(z)
    _, up = np.frexp(norm)
    up = np.where((norm >= 0.5) & (norm < 2.0), 0, up)
    return np.ldexp(z, -up[:, None]), up


def network_of(z: np.ndarray, exponent: np.ndarray, negative_slope: float) -> TwoLayerReLU:
    """Return the network of the neurons ``2**exponent * z``, of whatever size they are."""
    if np.all(np.abs(exponent) < 900):
        scaled = np.ldexp(z, exponent[:, None].astype(np.int32))
        return TwoLayerReLU(scaled[:, 0], scaled[:, 1:], negative_slope)
    log_scale = exponent * np.log(2.0)
    return TwoLayerReLU(z[:, 0], z[:, 1:], negative_slope, log_scale=log_scale)


def _binary(network: TwoLayerReLU) -> tuple[np.ndarray, np.ndarray]:
    """Split a network into z of norm in [1/2, 2) and integer binary exponents.

    Each neuron by itself: exactly from its weights where float64 holds them well, else from
    its direction and the logarithm of its norm.
    """
    actual = np.column_stack([network.a, network.W])
    live = np.isfinite(network.log_norm)
    size = largest(actual)
    held = (size > 1e-280) & np.isfinite(size)
    safe = np.where(held[:, None], actual, 0.0)
    top = np.where(held, size, 1.0)
    _, exponent = np.frexp(norms(_unit(safe, top)))
    exponent = exponent + np.frexp(top)[1].astype(np.int64)
    z = np.ldexp(safe, -exponent[:, None].astype(np.int32))
    binary_log = np.where(live, network.log_norm, 0.0) / np.log(2.0)
    above = np.floor(binary_log).astype(np.int64) + 1
    mantissa = network.direction * np.exp2(binary_log - above)[:, None]
    z = np.where(held[:, None], z, np.where(live[:, None], mantissa, 0.0))
    return z, np.where(held, exponent, np.where(live, above, 0))


def _unit(actual: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Divide each row by the power of two above its largest entry: squares stay in range."""
    _, top = np.frexp(size)
    return np.ldexp(actual, -top[:, None].astype(np.int32))
