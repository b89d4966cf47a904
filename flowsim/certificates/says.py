"""What a certificate says, without its claim, as what JSON holds."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

from flint import arb

from flowsim.certificates.certificate import Certificate, limit_value
from flowsim.certificates.claim_json import (
    decode,
    decode_ball,
    decode_fraction,
    encode_ball,
    encode_fraction,
)
from flowsim.certificates.exact import Piece


def says_of(certificate: Certificate) -> dict[str, Any]:
    """Return everything but the claim; numbers that are not known are None."""
    limit = certificate.limit_loss
    return {
        "proved": certificate.proved,
        "kind": certificate.kind,
        "reason": certificate.reason,
        "remedy": certificate.remedy,
        "limit_loss": None if limit is None else _limit(limit),
        "limit_loss_decimal": _known(limit_value(limit)),
        "t": _known(certificate.t),
        "wait": _known(certificate.wait),
        "escape_time": _known(certificate.escape_time),
        "quantities": certificate.quantities,
        "pieces": [
            {"pattern": "".join("-0+"[s + 1] for s in piece.pattern),
             "beta": [_weight(x) for x in piece.beta]}
            for piece in certificate.pieces
        ],
    }  # fmt: skip


def _weight(x: Fraction | float) -> str:
    return encode_fraction(x) if isinstance(x, Fraction) else repr(x)


def _limit(limit: Fraction | arb) -> str:
    return encode_fraction(limit) if isinstance(limit, Fraction) else encode_ball(limit)


def _known(x: float) -> float | None:
    return x if math.isfinite(x) else None


def read_says(raw: dict[str, Any]) -> Certificate:
    """Return the certificate that `says_of` has been made of, without its claim.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is none.
    """
    text = raw["limit_loss"]
    limit = None if text is None else decode_ball(text) if "p" in text else decode_fraction(text)
    if not isinstance(raw["proved"], bool):
        raise ValueError("it does not say whether it is proved")
    pieces = tuple(
        Piece(
            tuple("-0+".index(s) - 1 for s in piece["pattern"]),
            _vector(piece["beta"]),
        )
        for piece in raw["pieces"]
    )
    return Certificate(
        raw["proved"], str(raw["kind"]), limit, str(raw["reason"]), str(raw["remedy"]),
        t=_number(raw["t"]), quantities={str(k): float(x) for k, x in raw["quantities"].items()},
        pieces=pieces, wait=_number(raw["wait"]), escape_time=_number(raw["escape_time"]),
    )  # fmt: skip


def _vector(texts: list[str]) -> tuple[Fraction, ...] | tuple[float, ...]:
    if any(set(x) & set(".en") for x in texts):  # decimals
        return tuple(float(x) for x in texts)
    return tuple(decode_fraction(x) for x in texts)


def _number(x: Any) -> float:
    return float("nan") if x is None else float(x)


def restored(text: str, claim: dict[str, Any] | None) -> Certificate:
    """Return the certificate of `to_text` and of an encoded claim: unpickled, or copied."""
    found = read_says(json.loads(text))
    return found if claim is None else replace(found, claim=decode(claim))


def to_text(certificate: Certificate | None) -> str:
    """Return what a certificate says as text; empty for none."""
    return "" if certificate is None else json.dumps(says_of(certificate))


def from_text(text: str) -> Certificate | None:
    """Return the certificate of `to_text`, without its claim."""
    return read_says(json.loads(text)) if text else None
