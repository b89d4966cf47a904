"""The flow by Taylor series in ball arithmetic: rigorous, or to any number of digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsim._lazy import attach

if TYPE_CHECKING:
    from flowsim.engines.validated.config import Validated
    from flowsim.engines.validated.enclose import enclose
    from flowsim.engines.validated.result import EnclosedEvent, EnclosedState, Enclosure

__all__ = ["EnclosedEvent", "EnclosedState", "Enclosure", "Validated", "enclose"]

__getattr__ = attach(
    __name__,
    {
        "EnclosedEvent": "flowsim.engines.validated.result",
        "EnclosedState": "flowsim.engines.validated.result",
        "Enclosure": "flowsim.engines.validated.result",
        "Validated": "flowsim.engines.validated.config",
        "enclose": "flowsim.engines.validated.enclose",
    },
)


def __dir__() -> list[str]:
    return __all__
