"""The cell in which a neuron that is on hyperplanes goes on, proved to be the only one.

Of the cells around the point, with the hyperplanes left on either side or slid upon, one is
*consistent* where the velocities lead to its sides and the multipliers lie between their ends. The
flow goes on there if one is consistent and all others are proved not to be. A velocity or a
multiplier's distance that vanishes identically (a row of rationals is zero) is a tie: ties slide.
Where no sample would be on in one of the cells around, its zero field is the element of least
norm: the neuron stops, and is dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from flint import arb

from flowsim.engines.validated.balls import dot
from flowsim.engines.validated.state import Box, Neuron
from flowsim.engines.validated.system import Code, System
from flowsim.engines.validated.undecided import Undecided
from flowsim.events import ALIVE, DEAD

NO, MAYBE, YES = -1, 0, 1


@dataclass(frozen=True)
class Choice:
    """The cell that a neuron goes on in."""

    code: Code
    fate: int


def choose(
    system: System, box: Box, j: int, neuron: Neuron, touched: tuple[int, ...], tau: arb
) -> Choice:
    """Return the one cell in which neuron j goes on from the hyperplanes `touched`.

    Parameters
    ----------
    box : Box
        Balls of all neurons at the event.
    touched : tuple of int
        All hyperplanes that w lies on, its slides included.

    Raises
    ------
    Undecided
        If none or several are consistent, or that cannot be told.
    """
    if len(touched) >= system.d:
        raise Undecided("w = 0, where all hyperplanes meet", tau, j, touched[0], final=True)
    fits: dict[Code, int] = {}
    dead: list[Code] = []
    for sides in product((-1, 0, 1), repeat=len(touched)):
        code = _with(neuron.code, touched, sides)
        if system.is_dead(code):
            dead.append(code)
        else:
            fits[code] = _consistent(system, box, neuron.sign, code, touched)
    if dead:
        # A cell beside it that carries w away would make the flow non-unique.
        fits = {code: fit for code, fit in fits.items() if any(system.coefficients(code))}
        if all(fit == NO for fit in fits.values()):
            return Choice(dead[0], DEAD)
    else:
        found = [code for code, fit in fits.items() if fit == YES]
        if len(found) == 1 and all(f == NO for code, f in fits.items() if code != found[0]):
            return Choice(found[0], ALIVE)
    raise _undecided(list(fits.values()), bool(dead), tau, j, touched[-1])


def _undecided(fits: list[int], dead: bool, tau: arb, j: int, plane: int) -> Undecided:
    if MAYBE in fits:
        reason = "velocities at a hyperplane cannot be told from zero"
        return Undecided(reason, tau, j, plane)
    if YES in fits:
        reason = "the flow is not unique at a hyperplane, which repels the neuron"
        return Undecided(reason, tau, j, plane, final=True)
    assert not dead
    return Undecided("no cell at a hyperplane is consistent", tau, j, plane, final=True)


def _with(code: Code, touched: tuple[int, ...], sides: tuple[int, ...]) -> Code:
    new = list(code)
    for g, s in zip(touched, sides, strict=True):
        new[g] = s
    return tuple(new)


def _consistent(system: System, box: Box, sign: int, code: Code, touched: tuple[int, ...]) -> int:
    """Return YES, NO or MAYBE."""
    cell = system.cell(code)
    if cell is None:
        return MAYBE
    D = [dot(row, box.r) for row in cell.B]
    answers = []
    for g in touched:
        side = code[g]
        if side:
            if not system.moves(cell, g):
                return NO  # it would stay on the hyperplane: that is a slide
            answers.append(_sign(side * sign * dot(system.ball_normals[g], D)))
            continue
        rows = [cell.gaps[g, s] for s in (-1, 1)]
        if all(row is None for row in rows):  # the samples exert nothing on either side
            return MAYBE
        answers += [
            _sign(s * sign * dot(row, box.r))
            for s, row in zip((-1, 1), rows, strict=True)
            if row is not None
        ]
    return min(answers)


def _sign(x: arb) -> int:
    return YES if x > 0 else NO if x < 0 else MAYBE
