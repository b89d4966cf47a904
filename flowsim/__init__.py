"""Exact-to-tolerance gradient flow of two-layer ReLU networks.

Public names are imported when they are first used, so that ``import flowsim`` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsim._lazy import attach
from flowsim._version import __version__

if TYPE_CHECKING:
    from flowsim import alignment, datasets, engines, experiments, init, models, plot
    from flowsim.alignment.extremal import ExtremalVector, extremal_vectors
    from flowsim.certificates.certificate import Certificate
    from flowsim.certificates.certify import certify
    from flowsim.certificates.verify import verify
    from flowsim.comparing.compare import compare
    from flowsim.comparing.result import Comparison
    from flowsim.data import Dataset
    from flowsim.experiments.result import Sweep
    from flowsim.experiments.sweep import sweep
    from flowsim.experiments.threshold import Threshold, threshold
    from flowsim.files import load
    from flowsim.network import TwoLayerReLU
    from flowsim.resume import resume
    from flowsim.simulate import simulate, simulate_batch
    from flowsim.solution import RunError, Solution

__all__ = [
    "Certificate",
    "Comparison",
    "Dataset",
    "ExtremalVector",
    "RunError",
    "Solution",
    "Sweep",
    "Threshold",
    "TwoLayerReLU",
    "__version__",
    "alignment",
    "certify",
    "compare",
    "datasets",
    "engines",
    "experiments",
    "extremal_vectors",
    "init",
    "load",
    "models",
    "plot",
    "resume",
    "simulate",
    "simulate_batch",
    "sweep",
    "threshold",
    "verify",
]

__getattr__ = attach(
    __name__,
    {
        "Certificate": "flowsim.certificates.certificate",
        "Comparison": "flowsim.comparing.result",
        "Dataset": "flowsim.data",
        "ExtremalVector": "flowsim.alignment.extremal",
        "RunError": "flowsim.solution",
        "Solution": "flowsim.solution",
        "Sweep": "flowsim.experiments.result",
        "Threshold": "flowsim.experiments.threshold",
        "TwoLayerReLU": "flowsim.network",
        "certify": "flowsim.certificates.certify",
        "compare": "flowsim.comparing.compare",
        "extremal_vectors": "flowsim.alignment.extremal",
        "load": "flowsim.files",
        "resume": "flowsim.resume",
        "simulate": "flowsim.simulate",
        "simulate_batch": "flowsim.simulate",
        "sweep": "flowsim.experiments.sweep",
        "threshold": "flowsim.experiments.threshold",
        "verify": "flowsim.certificates.verify",
    },
    ("alignment", "datasets", "engines", "experiments", "init", "models", "plot"),
)


def __dir__() -> list[str]:
    return __all__
