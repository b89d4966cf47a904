"""What kind of point a certified flow tends to, and how neurons fade."""

from __future__ import annotations

import math

import sympy

from derivations._derivation import Derivation, print_derivation

CLAIM = "The limit is a local minimum term by term; light neurons leave a saddle at rate σΨ*(u)"
SOURCE = "elementary (convexity of the loss in the outputs)"
USED_BY = (
    "flowsim/certificates/minimum.py (kind_of, growth)",
    "flowsim/certificates/fading.py (reach, check)",
    "flowsim/certificates/certify.py (Certifier: escape_time)",
)


def derive(d: Derivation) -> None:
    """Derive the lower bound, its terms, the ways down, the growth, and fading."""
    _bound(d)
    _terms(d)
    _ways(d)
    _growth(d)
    _fading(d)


def _bound(d: Derivation) -> None:
    d.say("L = ω‖y − h‖²/2 is convex in the outputs h. Written out for two samples, with r* "
          "= y − h_∞:")  # fmt: skip
    omega = sympy.Symbol("omega", positive=True)
    y, h, star = (sympy.Matrix(sympy.symbols(f"{x}_1 {x}_2", real=True)) for x in "yhr")
    limit = y - star
    left = omega / 2 * ((y - h).dot(y - h) - star.dot(star)) + omega * star.dot(h - limit)
    d.equal("L − L_∞ + ω r*·(h − h_∞)", sympy.expand(left),
            sympy.expand(omega / 2 * (h - limit).dot(h - limit)))  # fmt: skip
    d.say("and r*·h_∞ = 0, as h_∞ lies in V. So L − L_∞ ≥ −ω r*·h = −Σ_j a_jΨ(w_j), Ψ(u) = "
          "ω Σ_k r*_k σ(u·x_k).")  # fmt: skip


def _terms(d: Derivation) -> None:
    d.say("Inside its cell a neuron's term is a r*·diag(c)Xw = 0. On a slide with normal x "
          "it is a q(u^± − ζ*), q = x·w. With σ = sign(a) and σu⁺ < σζ* < σu⁻:")  # fmt: skip
    a, q, up, down = sympy.symbols("a q p m", positive=True)
    d.holds("q > 0: −|a| q |u⁺ − ζ*| < 0", bool((-a * q * up).is_negative))
    d.holds("q < 0: −|a||q| |u⁻ − ζ*| < 0", bool((-a * q * down).is_negative))
    eta, pull, s = sympy.symbols("eta r s", real=True)
    d.say("For one sample, s = 0 and ζ* = ωηr* these are a r*(σ(q) − ηq):")
    d.equal("q > 0", (1 - eta) * pull * s, pull * (s - eta * s))
    d.equal("q < 0", -eta * pull * s, pull * (0 - eta * s))
    d.say("both negative for a r* < 0 and 0 < η < 1. Behind a wall the term is a(u^other − "
          "u^own)q = −|a||q||u⁺ − u⁻| by attraction; at an open hyperplane it is 0, as b·r* "
          "= 0; for a dead neuron on its hyperplane a r*·b max(q, 0)·const ≤ 0 if σb·r* ≤ "
          "0.")  # fmt: skip


def _ways(d: Derivation) -> None:
    d.say("A neuron that is added at (a, w) = ε(σ, u) changes h by ε²σ·σ(u·x_k), hence with "
          "f_k = σ(u·x_k) for two samples")  # fmt: skip
    omega, eps = sympy.symbols("omega epsilon", positive=True)
    sign = sympy.Symbol("sigma", real=True)
    r, f = (sympy.Matrix(sympy.symbols(f"{x}_1 {x}_2", real=True)) for x in "rf")
    rest = r - eps**2 * sign * f
    change = omega / 2 * (rest.dot(rest) - r.dot(r))
    psi = omega * r.dot(f)
    expected = -(eps**2) * sign * psi + eps**4 * sign**2 * omega / 2 * f.dot(f)
    d.equal("L − L_∞", sympy.expand(change), sympy.expand(expected))
    d.say("so that σΨ(u) > 0 for one u makes the limit a saddle. A neuron at rest with a ≠ "
          "0 that moves by εu changes L by −ε|a|σΨ(u) to first order, Ψ over the samples "
          "that it lies on.")  # fmt: skip


def _growth(d: Derivation) -> None:
    d.say("Its growth: Ψ is homogeneous, Ψ(w) = w·D(w). So a' = w·D = Ψ(w), and for a "
          "balanced neuron, u = w/‖w‖, a = σ‖w‖:")  # fmt: skip
    a, psi, t, z = sympy.symbols("a Psi t z", positive=True)
    sign = sympy.Symbol("sigma", real=True)
    d.equal("(log |a|)'", sign * (a * psi) / a, sign * psi)
    gamma = sympy.Symbol("gamma", positive=True)
    solved = sympy.solve(sympy.Eq(z * sympy.exp(gamma * t), 1), t)[0]
    d.equal("z e^{γt} reaches 1 at", solved, sympy.log(1 / z) / gamma, _logs)
    d.say("γ = σΨ(u) is constant once w is aligned with D; `saddle_escape` has the rest.")


def _fading(d: Derivation) -> None:
    d.say("A balanced neuron that d − 1 slides pin to a ray has D along w. With p = |a|‖w‖, "
          "δ = −σ D·w/‖w‖ > 0, a' = −σδ‖w‖ and ‖w‖' = −δ|a|:")  # fmt: skip
    a, w, delta = sympy.symbols("a w delta", positive=True)
    rate = -delta * w * w + a * (-delta * a)
    d.equal("p' at |a| = ‖w‖", rate.subs(w, a), -2 * delta * a**2)
    d.say("Its outputs f keep their direction, and |f|' = −2δ|f|. With e = P_V r, E = "
          "√ω‖e‖, χ = √ωΣ|f| and v the core's speed, E' ≤ −√μ g v − χ': the outputs' part "
          "in V changes e, and only by what they lose. So F = E + χ satisfies F' ≤ −√μ g v, "
          "the bootstrap of `certificate` with F for E. And for N = E + 2χ, if |f|' ≤ −γ|f| "
          "for each:")  # fmt: skip
    E, chi, mu, gamma = sympy.symbols("E chi mu gamma", positive=True)
    change = -mu * E + gamma * chi - 2 * gamma * chi  # χ' = −γχ, the slowest
    d.equal("N' at most", change, -mu * E - gamma * chi)
    d.say("(μ for μg²). With ν = min(μ, γ/2) this is at most −νN. The excess of the loss is "
          "of second order in E and of first in χ:")  # fmt: skip
    d.say("L − L_∞ = E²/2 − ω r*·Σf + ω‖(I − P_V)Σf‖²/2,")
    d.say("so it decays like e^{−min(2μ, γ)t} at least, up to a constant.")


def _logs(x: sympy.Expr) -> sympy.Expr:
    return sympy.simplify(sympy.expand_log(x, force=True))


def escape_time(size: float, growth: float) -> float:
    """Return ln(1/‖z‖)/γ."""
    return math.log(1 / size) / growth


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()
