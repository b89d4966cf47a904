"""Engines: how the flow is integrated. One file or folder an engine.

`Piecewise`, `Diffrax` and `Scipy` follow the flow, `Validated` encloses it rigorously, and
`Descent` takes discrete steps; all are inert descriptions for ``simulate(..., engine=...)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsim._lazy import attach

if TYPE_CHECKING:
    from flowsim.engines.descent.config import Descent
    from flowsim.engines.diffrax import Diffrax
    from flowsim.engines.piecewise.config import Piecewise
    from flowsim.engines.scipy import Scipy
    from flowsim.engines.validated.config import Validated

__all__ = ["Descent", "Diffrax", "Piecewise", "Scipy", "Validated"]

__getattr__ = attach(
    __name__,
    {
        "Descent": "flowsim.engines.descent.config",
        "Diffrax": "flowsim.engines.diffrax",
        "Piecewise": "flowsim.engines.piecewise.config",
        "Scipy": "flowsim.engines.scipy",
        "Validated": "flowsim.engines.validated.config",
    },
)


def __dir__() -> list[str]:
    return __all__
