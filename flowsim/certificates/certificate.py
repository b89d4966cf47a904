"""A certificate: what has been proved of where a flow goes, or why it has not."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction
from math import inf, nextafter
from pathlib import Path
from typing import Any

from flint import arb, ctx

from flowsim.certificates import exact
from flowsim.certificates.balls import PRECISION, NotProvedError
from flowsim.certificates.claim import Claim
from flowsim.certificates.claim_json import encode
from flowsim.certificates.contraction import Contraction, contraction
from flowsim.certificates.exact import Piece
from flowsim.certificates.minimum import IN_RANGE, kind_of


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is known of where the gradient flow of a state goes.

    Attributes
    ----------
    proved : bool
        Whether it is proved, in ball arithmetic, that the flow from this state never leaves its
        cells and that its loss tends to `limit_loss`, at a point of the kind `kind`. Of a saddle
        by light neurons: that the flow without them does.
    kind : str
        As of `Final.kind`.
    limit_loss : Fraction, arb or None
        The limit, exactly for data of few digits, else as a ball; in the run's normalisation.
    reason : str
        Why the limit is what it is; or what keeps it from being proved.
    remedy : str
        What would let it be proved.
    t : float
        Time of the state.
    quantities : dict
        ``mu, tau, E0, q, turning`` and ``slack`` as in docs/certificates.md; ``rate`` at which
        ``L - L_inf`` decays at least; ``loss``; ``core``, the number of its neurons.
    pieces : tuple of Piece
        The limit function's linear maps, where they are unique.
    wait : float
        How much more time is predicted to be needed; nan where that is not known.
    escape_time : float
        Of a saddle: when light neurons are predicted to leave it; else nan.
    claim : Claim or None
        All that the proof needs.
    """

    proved: bool
    kind: str
    limit_loss: Fraction | arb | None
    reason: str
    remedy: str = ""
    t: float = float("nan")
    quantities: dict[str, float] = field(default_factory=dict)
    pieces: tuple[Piece, ...] = ()
    wait: float = float("nan")
    escape_time: float = float("nan")
    claim: Claim | None = None

    def to_json(self) -> str:
        """Return the text of a file that `flowsim.verify` proves again, alone.

        Raises
        ------
        ValueError
            If nothing has been proved, or the claim is not at hand: a run that has been loaded
            is certified anew by `flowsim.certify`.
        """
        from flowsim.certificates.verify import text_of

        return text_of(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json` to a file, at once."""
        from flowsim.files import replacing

        text = self.to_json()
        with replacing(Path(path)) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    @property
    def enclosed(self) -> bool:
        """Whether the claim is of every state in an enclosure, not of one state."""
        neurons = () if self.claim is None else self.claim.neurons
        return any(not x.is_exact() for neuron in neurons for x in neuron.w)

    def __reduce__(self) -> tuple[Any, ...]:
        from flowsim.certificates.says import restored, to_text

        claim = None if self.claim is None else encode(self.claim)
        return restored, (to_text(self), claim)

    def __repr__(self) -> str:
        state = "proved" if self.proved else "not proved"
        value = limit_value(self.limit_loss)
        limit = "" if self.limit_loss is None else f", limit_loss={value:.10g}"
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"Certificate({state}: {self.kind}{limit}, {self.reason}{remedy})"


def limit_value(limit: Fraction | arb | None) -> float:
    """Return a limit as a float; nan for none."""
    if limit is None:
        return float("nan")
    return float(limit) if isinstance(limit, Fraction) else float(limit.mid())


def prove(claim: Claim, t: float = float("nan")) -> Certificate:
    """Prove a claim in ball arithmetic.

    Returns
    -------
    Certificate
        With `proved` false and the reason where it cannot be proved.
    """
    with ctx.workprec(PRECISION):
        try:
            found = contraction(claim)
            kind, reason = kind_of(claim, found)
            limit = exact.limit_loss(claim, found.basis.span)
            if kind == "interpolation" and (claim.everything or reason == IN_RANGE):
                limit = Fraction(0)
            return Certificate(
                True, kind, found.limit_loss if limit is None else limit, reason, t=t,
                quantities=_quantities(claim, found),
                pieces=exact.pieces(claim, found.basis.span), claim=claim,
            )  # fmt: skip
        except (NotProvedError, ZeroDivisionError) as error:
            reason = str(error) if isinstance(error, NotProvedError) else "a matrix is singular"
            return Certificate(False, "unknown", None, reason, t=t, claim=claim)


def _quantities(claim: Claim, found: Contraction) -> dict[str, float]:
    """Return bounds as floats that are bounds, too: rounded down, or up."""
    least = {name: _below(getattr(found, name)) for name in ("mu", "rate", "slack")}
    most = {name: -_below(-getattr(found, name)) for name in ("tau", "E0", "q", "turning")}
    counts = {role: float(len(claim.having(role))) for role in ("core", "removed")}
    return {**least, **most, "loss": float(found.loss.mid()), **counts}


def _below(x: arb) -> float:
    """Return the next float below the lower end of a ball; 0 for 0."""
    low = float(x.lower())
    return nextafter(low, -inf) if low or x != 0 else 0.0


def rounded_down(x: float) -> str:
    """Return four digits of a positive number, not more than it is."""
    with localcontext() as context:
        context.prec, context.rounding = 4, ROUND_FLOOR
        return f"{float(+Decimal(x)):.4g}"


def statement(found: Certificate) -> str:
    """Return what has been proved as a sentence."""
    limit = found.limit_loss
    value = f"{limit_value(limit):.12g}"
    if isinstance(limit, Fraction) and limit.denominator != 1:
        value = f"{limit} = {value}"
    if found.quantities["core"] == 0.0:
        return (
            f"No neuron of this state moves, and none ever will; its loss stays {value}; it is "
            f"{_article(found.kind)} ({found.reason})."
        )
    light = int(found.quantities["removed"])
    whose = f"Without its {light} light neurons, the" if light else "The"
    state = "every state in the enclosure" if found.enclosed else "this state"
    return (
        f"{whose} gradient flow from {state} keeps its cells for ever and its loss tends to "
        f"{value}, the excess at least like exp(-{rounded_down(found.quantities['rate'])} t); the "
        f"limit is {_article(found.kind)} ({found.reason}).{_policy(found)}"
    )


def _policy(found: Certificate) -> str:
    """Return what the statement takes for granted of neurons that do not move, if it does."""
    still = ("dead", "origin")
    neurons = () if found.claim is None else found.claim.neurons
    if any(x.role == "origin" or (x.role == "dead" and x.held) for x in neurons if x.role in still):
        return " Neurons on their last hyperplane, or at w = 0, stay there (a policy)."
    return ""


def _article(kind: str) -> str:
    words = kind.replace("_", " ")
    return "an interpolation" if kind == "interpolation" else f"a {words}"
