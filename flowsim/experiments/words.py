"""What integrates a run, as a word: piecewise, scipy:Radau, adam:0.001, ..."""

from __future__ import annotations

from typing import Any

#: Engines of the flow, with ":SOLVER" where they have several.
ENGINE_WORDS = ("piecewise", "diffrax", "scipy")
#: Descents, with ":LEARNING_RATE".
DESCENT_WORDS = ("gd", "log_norm", "momentum", "nesterov", "adam")


def engine_of(word: str) -> Any:
    """Return the engine that a word stands for.

    Parameters
    ----------
    word : str
        "piecewise"; "diffrax" or "scipy", or with a solver, "diffrax:Kvaerno5", "scipy:Radau"; a
        descent with its learning rate: "gd:0.01", "log_norm:0.01", "momentum:0.01",
        "nesterov:0.01", "adam:0.001".

    Raises
    ------
    ValueError
        If it stands for none.
    """
    from flowsim import engines

    if not isinstance(word, str):
        raise TypeError(
            f"Argument `engine` must be a word, or a mapping from names to engines, but has an "
            f"entry of type {type(word).__name__}."
        )
    kind, _, rest = word.partition(":")
    if kind in DESCENT_WORDS:
        return _descent(kind, _rate(word, rest))
    if kind == "piecewise" and not rest:
        return engines.Piecewise()
    if kind in ("diffrax", "scipy"):
        make: Any = engines.Diffrax if kind == "diffrax" else engines.Scipy
        return make(rest) if rest else make()
    raise ValueError(
        f"Argument `engine` must be one of {', '.join(ENGINE_WORDS)}, with :SOLVER for the latter "
        f"two, or one of {', '.join(DESCENT_WORDS)} with :LEARNING_RATE, but it is {word!r}."
    )


def _descent(kind: str, rate: float) -> Any:
    from flowsim.engines import Descent

    if kind == "log_norm":
        return Descent("gd", rate, coordinates="log_norm", patterns=False)
    return Descent(kind, rate, patterns=False)


def _rate(word: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"Argument `engine` must give a learning rate after the colon, as in gd:0.01, but is "
            f"{word!r}."
        ) from None
