"""What a derivation is made of: text, expressions shown, and identities that must hold."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import sympy


class DerivationError(AssertionError):
    """An identity that a derivation claims does not hold."""


class Derivation:
    """Collect the steps of one derivation and check each as it is written down."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def say(self, text: str) -> None:
        """Add a paragraph."""
        self._lines += ["", " ".join(text.split())]

    def show(self, name: str, expression: Any) -> None:
        """Add ``name = expression`` in LaTeX."""
        self._lines += ["", f"    {name} = {_latex(expression)}"]

    def equal(
        self, name: str, left: Any, right: Any, simplify: Callable[[Any], Any] = sympy.simplify
    ) -> None:
        """Add that `left` equals `right`, if their simplified difference is zero.

        Raises
        ------
        DerivationError
            If it is not.
        """
        difference = sympy.sympify(left - right)
        rest = difference.applyfunc(simplify) if _is_matrix(difference) else simplify(difference)
        if not (rest.is_zero_matrix if _is_matrix(rest) else rest == 0):
            raise DerivationError(f"{name}: {left} is not {right}; they differ by {rest}.")
        self._lines += ["", f"    {name} = {_latex(right)}    (checked)"]

    def holds(self, claim: str, truth: Any) -> None:
        """Add a claim that has been decided to be true.

        Raises
        ------
        DerivationError
            If `truth` is anything but True.
        """
        if truth is not True and truth is not sympy.true:
            raise DerivationError(f"{claim}: decided as {truth}.")
        self._lines += ["", f"    {claim}    (checked)"]

    @property
    def text(self) -> str:
        return "\n".join(self._lines).strip() + "\n"


def _is_matrix(value: Any) -> bool:
    return isinstance(value, sympy.MatrixBase)


def _latex(value: Any) -> str:
    return sympy.latex(sympy.sympify(value))


def printed(module: ModuleType) -> str:
    """Return the whole text of a derivation: its claim, its source, its steps, its uses."""
    derivation = Derivation()
    module.derive(derivation)
    head = [module.CLAIM, "=" * len(module.CLAIM), "", f"Source: {module.SOURCE}"]
    used = ["Used by", *(f"    {path}" for path in module.USED_BY)]
    return "\n".join([*head, "", derivation.text, *used]) + "\n"


def print_derivation(name: str) -> None:
    """Print the derivation of the module `name`: what each file's main() does."""
    print(printed(sys.modules[name]), end="")
