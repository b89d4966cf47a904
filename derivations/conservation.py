"""The flow keeps a_j² − ‖w_j‖²."""

from __future__ import annotations

from typing import Any

import sympy

from derivations._derivation import Derivation, print_derivation

CLAIM = "The gradient flow keeps a² − ‖w‖² of every neuron, sliding or not"
SOURCE = (
    "Du, Hu & Lee, Algorithmic regularization in learning deep homogeneous models, "
    "NeurIPS 2018 (arXiv 1806.00900), theorem 2.1"
)
USED_BY = ("flowsim/engines/piecewise/expansion.py (advance)",)


def derive(d: Derivation) -> None:
    """Differentiate a² − ‖w‖² along a' = w·D, w' = a D for any D(t), d = 3 for definiteness."""
    t = sympy.Symbol("t", real=True)
    a = sympy.Function("a")(t)
    w: Any = sympy.Matrix([sympy.Function(f"w_{i}")(t) for i in (1, 2, 3)])
    D = sympy.Matrix([sympy.Function(f"D_{i}")(t) for i in (1, 2, 3)])
    d.say("One neuron's flow is a' = w·D, w' = a D, whatever D is: the field of its cell, or the "
          "projected one of a slide.")  # fmt: skip
    flow = {a.diff(t): w.dot(D), **{w[i].diff(t): a * D[i] for i in range(3)}}
    change = (a**2 - w.dot(w)).diff(t)
    d.show(r"\tfrac{d}{dt}(a^2 - \|w\|^2)", change)
    d.equal("on the flow, this", change.subs(flow), sympy.Integer(0))
    d.say("So |a| ≥ ‖w‖ at the start keeps a from ever passing 0.")


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()
