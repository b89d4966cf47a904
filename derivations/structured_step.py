"""How an implicit step of a two-layer network is solved without its Jacobian."""

from __future__ import annotations

from typing import Any

import sympy

from derivations._derivation import Derivation, print_derivation

CLAIM = "An implicit step of a two-layer network needs blocks of one neuron and an n × n system"
SOURCE = "elementary; Woodbury: Golub & Van Loan 2013, Matrix computations, §2.1.4"
USED_BY = (
    "flowsim/engines/structured_blocks.py",
    "flowsim/engines/structured_solve.py",
)


def derive(d: Derivation) -> None:
    """Split the Jacobian, invert its blocks in closed form, and add what couples them."""
    _split(d)
    _closed_form(d)
    _slides(d)
    _woodbury(d)
    _capacitance(d)


def _split(d: Derivation) -> None:
    d.say(
        "One neuron's share of sample x: θ = s z, z = (a, w), adds s a φ(s w·x) to the output h. "
        "The flow z' = ωr ∇_θ h / s, r = y - h, of the loss ωr²/2 has the Jacobian"
    )
    a, s, y, omega = sympy.symbols("a s y omega", positive=True)
    w, x = _vector("w", 2), _vector("x", 2)
    # φ near u* up to its second derivative, the last that J asks for; u* = s w·x in the end.
    at, slopes = sympy.Symbol("u"), sympy.symbols("phi_0 phi_1 phi_2")
    off = s * w.dot(x) - at
    others, r = sympy.symbols("h_0 r", real=True)
    h = others + s * a * (slopes[0] + slopes[1] * off + slopes[2] * off**2 / 2)
    z = sympy.Matrix([a, *w])
    gradient = sympy.Matrix([h]).jacobian(z).T
    jacobian = (omega * (y - h) * gradient / s**2).jacobian(z)
    there = {at: s * w.dot(x)}
    added = sympy.Matrix([slopes[0] / s, *(a * slopes[1] * x)])
    seen = s**2 * added
    own = (omega * r * _block(a, s, x, slopes)).subs(r, y - others - s * a * slopes[0])
    d.equal(r"\nabla_z h", gradient.subs(there), seen)
    d.equal(r"J = H - u \omega v^T", jacobian.subs(there), own - omega * added * seen.T)
    d.say(
        "u = ∇_z h/s², v = ∇_z h. H, at constant r, belongs to this neuron alone; u ω vᵀ acts "
        "through h, to which all neurons add: over neurons and samples, J = blockdiag(H_j) - "
        "U Ω Vᵀ, where U_j and V_j have one column a sample (and output) and Ω holds the ω_k."
    )


def _closed_form(d: Derivation) -> None:
    d.say(
        "For a frozen pattern φ is linear on either side, φ'' = 0, and H = M(D), D = Σ ω_k c_k r_k "
        "x_k. As M³ = |D|²M:"
    )
    s = sympy.Symbol("s", real=True)
    D = _vector("D", 3)
    M = _matrix(D)
    size = D.dot(D)
    d.equal("M^3 - |D|^2 M", M**3 - size * M, sympy.zeros(4, 4))
    inverse = sympy.eye(4) + (s * M + s**2 * M**2) / (1 - s**2 * size)
    d.equal(
        "(I - sM) (I + (sM + s²M²)/(1 - s²|D|²))", (sympy.eye(4) - s * M) * inverse, sympy.eye(4)
    )
    d.equal(r"\det(I - sM)", (sympy.eye(4) - s * M).det(), 1 - s**2 * size)
    d.say(
        "so it fails at s|D| = 1 alone. Applied to b = (b_a, b_w), with δ = sD, it is x_a = (b_a + "
        "δ·b_w)/(1 - |δ|²), x_w = b_w + x_a δ:"
    )
    b = _vector("b", 4)
    delta: Any = s * D
    first = (b[0] + delta.dot(b[1:, 0])) / (1 - delta.dot(delta))
    solved = sympy.Matrix([first, *(b[1:, 0] + first * delta)])
    d.equal("x - (I - sM)^{-1} b", solved - inverse * b, sympy.zeros(4, 1))


def _slides(d: Derivation) -> None:
    d.say(
        "On slides D is P D₀, P = I - ννᵀ for one unit normal ν. What the residual adds to the "
        "velocities, U, is projected; what the outputs see, V, is not. At c = 1 and one sample:"
    )
    a, omega, mass, y = sympy.symbols("a omega mass y", positive=True)
    w, x = _vector("w", 2), _vector("x", 2)
    angle = sympy.Symbol("alpha", real=True)
    nu = sympy.Matrix([sympy.cos(angle), sympy.sin(angle)])
    P = sympy.eye(2) - nu * nu.T
    h = mass * a * w.dot(x)
    D = P * x * omega * (y - h)
    z = sympy.Matrix([a, *w])
    flow = sympy.Matrix([w.dot(D), *(a * D)])
    added = sympy.Matrix([w.dot(P * x), *(a * P * x)])
    seen = mass * sympy.Matrix([w.dot(x), *(a * x)])
    d.equal(
        r"J - M(PD) + U \omega V^T",
        flow.jacobian(z) - _matrix(D) + omega * added * seen.T,
        sympy.zeros(3, 3),
    )


def _woodbury(d: Derivation) -> None:
    d.say(
        "With B = I - s blockdiag(H_j), (B + s U Ω Vᵀ) x = b. Let c = Vᵀx be how the outputs "
        "change; then Bx = b - s U Ω c, and Vᵀ B⁻¹ of it is a system for c alone:"
    )
    s = sympy.Symbol("s", real=True)
    B = sympy.diag(*sympy.symbols("B_1:4", positive=True))
    U, V = (sympy.Matrix(3, 2, sympy.symbols(f"{name}_1:7")) for name in "UV")
    omega = sympy.diag(*sympy.symbols("omega_1:3", positive=True))
    b = _vector("b", 3)
    system = sympy.eye(2) + s * V.T * B.inv() * U * omega
    change = system.inv() * V.T * B.inv() * b
    x = B.inv() * (b - s * U * omega * change)
    d.equal(
        r"(B + s U \Omega V^T) x - b, c = (I + s V^T B^{-1} U \Omega)^{-1} V^T B^{-1} b",
        (B + s * U * omega * V.T) * x - b,
        sympy.zeros(3, 1),
    )
    d.say("By Sylvester's identity I - sJ is singular if and only if a block or this system is:")
    whole = (B + s * U * omega * V.T).det()
    same = sympy.simplify(B.det() * system.det() - whole) == 0
    d.holds(r"\det(B + s U \Omega V^T) = \det B \det(I + s V^T B^{-1} U \Omega)", same)


def _capacitance(d: Derivation) -> None:
    d.say(
        "In a frozen cell one neuron's share of Vᵀ B⁻¹ U costs O(1) for each pair of samples k, l: "
        "with α = c w·x, α^P = c w·Px, β = c a δ·x (δ = Pδ) it is mass ((α + β)_k (α^P + β)_l/"
        "(1 - |δ|²) + a² c_k c_l x_k·Px_l)."
    )
    a, mass = sympy.symbols("a mass", positive=True)
    w, x, other = (_vector(name, 2) for name in ("w", "x", "q"))
    c_k, c_l, along = sympy.symbols("c_k c_l p", real=True)
    P = sympy.Matrix([[0, 0], [0, 1]])  # a slide along the first axis, for any direction
    delta = sympy.Matrix([0, along])
    seen = mass * c_k * sympy.Matrix([w.dot(x), *(a * x)])
    added = c_l * sympy.Matrix([w.dot(P * other), *(a * P * other)])
    share = (seen.T * (sympy.eye(3) - _matrix(delta)).inv() * added)[0]
    left = c_k * (w.dot(x) + a * delta.dot(x))
    right = c_l * (w.dot(P * other) + a * delta.dot(other))
    claimed = left * right / (1 - along**2) + a**2 * c_k * c_l * x.dot(P * other)
    d.equal(r"v_k^T B^{-1} u_l", share, mass * claimed)


def _matrix(D: sympy.Matrix) -> sympy.Matrix:
    """Return M(D), symmetric with D beside a zero block."""
    M = sympy.zeros(len(D) + 1, len(D) + 1)
    M[0, 1:], M[1:, 0] = D.T, D
    return M


def _block(
    a: sympy.Symbol, s: sympy.Symbol, x: sympy.Matrix, slopes: tuple[sympy.Symbol, ...]
) -> sympy.Matrix:
    """Return a neuron's second derivatives for a unit residual at one sample."""
    block = sympy.zeros(len(x) + 1, len(x) + 1)
    block[0, 1:], block[1:, 0] = slopes[1] * x.T, slopes[1] * x
    block[1:, 1:] = s * a * slopes[2] * x * x.T
    return block


def _vector(name: str, size: int) -> sympy.Matrix:
    return sympy.Matrix(sympy.symbols(f"{name}_1:{size + 1}", real=True))


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()
