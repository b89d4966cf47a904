"""A certificate: what has been proved of where a flow goes, or why it has not."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from flint import arb, ctx

from flowsim.certificates import exact
from flowsim.certificates.balls import PRECISION, NotProvedError
from flowsim.certificates.claim import Claim
from flowsim.certificates.claim_json import decode, decode_ball, encode, encode_ball
from flowsim.certificates.contraction import Contraction, contraction
from flowsim.certificates.exact import Piece
from flowsim.certificates.minimum import kind_of

FORMAT = "flowsim certificate 1"
#: Recorded quantities may differ by so much from those computed again: approximations of
#: eigenvectors differ between machines, what is proved with them hardly does.
AGREE = 1e-6


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
            If nothing has been proved.
        """
        if not self.proved or self.claim is None:
            raise ValueError(f"The certificate must be proved to be a file, but {self.reason}.")
        limit = self.limit_loss
        found = {
            "format": FORMAT,
            "says": {
                "kind": self.kind,
                "reason": self.reason,
                "limit_loss": _encode_limit(limit),
                "limit_loss_decimal": repr(float(limit_value(limit))),
                "t": self.t,
                "quantities": self.quantities,
            },
            "claim": encode(self.claim),
        }
        return json.dumps(found, indent=1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json` to a file, at once."""
        from flowsim.files import replacing

        text = self.to_json()
        with replacing(Path(path)) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def __repr__(self) -> str:
        state = "proved" if self.proved else "not proved"
        value = limit_value(self.limit_loss)
        limit = "" if self.limit_loss is None else f", limit_loss={value:.10g}"
        return f"Certificate({state}: {self.kind}{limit}, {self.reason})"


def _encode_limit(limit: Fraction | arb | None) -> str:
    return str(limit) if isinstance(limit, Fraction) else encode_ball(arb(limit))


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
            if kind == "interpolation" and (limit is not None or claim.everything):
                limit = Fraction(0) if claim.everything else limit
            return Certificate(
                True, kind, found.limit_loss if limit is None else limit, reason, t=t,
                quantities=_quantities(claim, found),
                pieces=exact.pieces(claim, found.basis.span), claim=claim,
            )  # fmt: skip
        except (NotProvedError, ZeroDivisionError) as error:
            reason = str(error) if isinstance(error, NotProvedError) else "a matrix is singular"
            return Certificate(False, "unknown", None, reason, t=t, claim=claim)


def _quantities(claim: Claim, found: Contraction) -> dict[str, float]:
    names = ("mu", "tau", "E0", "q", "turning", "rate", "slack", "loss")
    out = {name: float(getattr(found, name).mid()) for name in names}
    return {**out, "core": float(len(claim.having("core")))}


@dataclass(frozen=True)
class Verification:
    """What `verify` has found: whether the file's statement is proved, and why not."""

    proved: bool
    message: str
    certificate: Certificate | None = None

    def __bool__(self) -> bool:
        return self.proved


def verify(path: str | os.PathLike[str]) -> Verification:
    """Prove the statement of a certificate's file again, from the file alone.

    Nothing of the engine that has made it is used: exact fractions and ball arithmetic only.

    Parameters
    ----------
    path : path-like
        A file of `Certificate.save`.

    Returns
    -------
    Verification
        True where it is proved.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        raw = json.loads(text)
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            return Verification(False, f"The file is not a {FORMAT!r}.")
        claim, says = decode(raw["claim"]), raw["says"]
        stated = _stated(says)
    except (ValueError, KeyError, TypeError) as error:
        return Verification(False, f"The file cannot be read as a certificate: {error}.")
    found = prove(claim, stated.t)
    if not found.proved:
        return Verification(False, f"NOT PROVED: {found.reason}.", found)
    differs = _difference(stated, found)
    if differs:
        return Verification(False, f"NOT PROVED: {differs}.", found)
    return Verification(True, f"PROVED: {statement(found)}", found)


def _stated(says: dict[str, Any]) -> Certificate:
    text = says["limit_loss"]
    limit = decode_ball(text) if "p" in text else Fraction(text)
    quantities = {str(k): float(x) for k, x in says["quantities"].items()}
    return Certificate(
        True, str(says["kind"]), limit, str(says["reason"]), t=float(says["t"]),
        quantities=quantities,
    )  # fmt: skip


def _difference(stated: Certificate, found: Certificate) -> str:
    """Return in what a statement differs from what is proved; empty if in nothing."""
    if stated.kind != found.kind:
        return f"the kind is {found.kind}, not {stated.kind}"
    mine, other = found.limit_loss, stated.limit_loss
    if isinstance(mine, Fraction) != isinstance(other, Fraction) or (
        mine != other if isinstance(mine, Fraction) else not arb(mine).overlaps(arb(other))
    ):
        return f"the limit of the loss is {limit_value(mine):.12g}, not {limit_value(other):.12g}"
    if set(stated.quantities) != set(found.quantities):
        return "its quantities are not those of a certificate"
    for name, value in found.quantities.items():
        if not abs(stated.quantities[name] - value) <= AGREE * abs(value):
            return f"{name} is {value:.9g}, not {stated.quantities[name]:.9g}"
    return ""


def statement(found: Certificate) -> str:
    """Return what has been proved as a sentence."""
    limit = found.limit_loss
    value = f"{limit_value(limit):.12g}"
    if isinstance(limit, Fraction) and limit.denominator != 1:
        value = f"{limit} = {value}"
    rate = found.quantities["rate"]
    whose = "Without its light neurons, the" if "light" in found.reason else "The"
    return (
        f"{whose} gradient flow from this state keeps its cells for ever and its loss tends to "
        f"{value}, the excess at least like exp(-{rate:.4g} t); the limit is "
        f"{_article(found.kind)} ({found.reason})."
    )


def _article(kind: str) -> str:
    words = kind.replace("_", " ")
    return "an interpolation" if kind == "interpolation" else f"a {words}"
