"""Early alignment: the flow while r = y, in closed form, and the vectors that it leads to.

While the network is small its neurons do not see each other: each turns towards an
extremal vector or dies. See docs/alignment.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsim._lazy import attach

if TYPE_CHECKING:
    from flowsim.alignment.concentration import concentration, deviation
    from flowsim.alignment.extremal import ExtremalVector, ExtremalVectors, extremal_vectors
    from flowsim.alignment.flow import AlignmentFlow, flow, until

__all__ = [
    "AlignmentFlow",
    "ExtremalVector",
    "ExtremalVectors",
    "concentration",
    "deviation",
    "extremal_vectors",
    "flow",
    "until",
]

__getattr__ = attach(
    __name__,
    {
        "AlignmentFlow": "flowsim.alignment.flow",
        "ExtremalVector": "flowsim.alignment.extremal",
        "ExtremalVectors": "flowsim.alignment.extremal",
        "concentration": "flowsim.alignment.concentration",
        "deviation": "flowsim.alignment.concentration",
        "extremal_vectors": "flowsim.alignment.extremal",
        "flow": "flowsim.alignment.flow",
        "until": "flowsim.alignment.flow",
    },
)


def __dir__() -> list[str]:
    return __all__
