"""Files of certificates: written, and proved again from the file alone."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from flint import arb

from flowsim.certificates.certificate import Certificate, limit_value, prove, statement
from flowsim.certificates.claim_json import decode, encode
from flowsim.certificates.exact import Piece
from flowsim.certificates.says import read_says, says_of

FORMAT = "flowsim certificate 1"
#: Recorded quantities may differ by so much from those computed again: approximations of
#: eigenvectors differ between machines, what is proved with them hardly does.
AGREE = 1e-6
#: Below this they are the rounding of the balls.
ROUNDED = 1e-40


def text_of(certificate: Certificate) -> str:
    """Return the text of a proved certificate's file.

    Raises
    ------
    ValueError
        If it is not proved, or has no claim.
    """
    if not certificate.proved:
        raise ValueError(f"The certificate must be proved to be a file, but: {certificate.reason}.")
    if certificate.claim is None:
        raise ValueError(
            "The certificate must have its claim to be a file, but one of a loaded run has none; "
            "use flowsim.certify(run)."
        )
    found = {"format": FORMAT, "says": says_of(certificate), "claim": encode(certificate.claim)}
    return json.dumps(found, indent=1)


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
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"Argument `path` must be the name of a file, but is of type {type(path).__name__}."
        )
    try:
        text = Path(path).read_text(encoding="utf-8")
        raw = json.loads(text)
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            return Verification(False, f"The file is not a {FORMAT!r}.")
        claim, says = decode(raw["claim"]), raw["says"]
        stated, decimal = read_says(says), float(says["limit_loss_decimal"])
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        return Verification(False, f"The file cannot be read as a certificate: {error}.")
    if not stated.proved:
        return Verification(False, "NOT PROVED: the file does not say that it is.")
    found = prove(claim, stated.t)
    if not found.proved:
        return Verification(False, f"NOT PROVED: {found.reason}.", found)
    differs = _difference(stated, found, decimal)
    if differs:
        return Verification(False, f"NOT PROVED: {differs}.", found)
    return Verification(True, f"PROVED: {statement(found)}", found)


def _difference(stated: Certificate, found: Certificate, decimal: float) -> str:
    """Return in what a statement differs from what is proved; empty if in nothing.

    Its time, the predicted times and the remedy are not part of what is proved.
    """
    if stated.kind != found.kind:
        return f"the kind is {found.kind}, not {stated.kind}"
    value = limit_value(found.limit_loss)
    if not _same_limit(stated.limit_loss, found.limit_loss):
        return f"the limit of the loss is {value:.17g}, not {limit_value(stated.limit_loss):.17g}"
    if not abs(decimal - value) <= AGREE * abs(value):
        return f"the limit of the loss is {value:.12g}, not {decimal:.12g}"
    if stated.reason != found.reason:
        return f"the reason is that {found.reason}, not that {stated.reason}"
    if not _same_pieces(stated.pieces, found.pieces):
        return "the pieces of the limit are others"
    if set(stated.quantities) != set(found.quantities):
        return "its quantities are not those of a certificate"
    unit = {"q": 1.0, "turning": 1.0, "E0": found.quantities["loss"] ** 0.5}
    for name, value in found.quantities.items():
        slack = AGREE * abs(value) + ROUNDED * unit.get(name, 0.0)
        if not abs(stated.quantities[name] - value) <= slack:
            return f"{name} is {value:.9g}, not {stated.quantities[name]:.9g}"
    return ""


def _same_limit(stated: Fraction | arb | None, found: Fraction | arb | None) -> bool:
    """Whether two limits agree: fractions are equal, balls overlap and are narrow."""
    if (
        stated is None
        or found is None
        or isinstance(stated, Fraction) != isinstance(found, Fraction)
    ):
        return False
    if isinstance(stated, Fraction) or isinstance(found, Fraction):
        return stated == found
    narrow = abs(stated).rad() <= AGREE * abs(stated.mid()) + 2 * found.rad()
    return bool(narrow and stated.overlaps(found))


def _same_pieces(stated: tuple[Piece, ...], found: tuple[Piece, ...]) -> bool:
    """Whether pieces agree: fractions are equal, floats nearly so."""
    if [p.pattern for p in stated] != [p.pattern for p in found]:
        return False
    for p, q in zip(stated, found, strict=True):
        if len(p.beta) != len(q.beta):
            return False
        scale = max(abs(x) for x in q.beta)
        for x, y in zip(p.beta, q.beta, strict=True):
            exact = isinstance(y, Fraction)
            if not (x == y if exact else abs(float(x) - y) <= AGREE * float(scale)):
                return False
    return True
