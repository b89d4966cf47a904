"""Options of ``flowsim certify`` and ``flowsim verify``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from flowsim.config import OptionalPath


@dataclass(frozen=True)
class CertifyConfig:
    """Prove where the flow goes from the end of a saved run, and write the proof to a file.

    The file is JSON with exact numbers; flowsim verify proves it again, alone.
    """

    path: Annotated[Positional[Path], arg(metavar="RUN.nc")]
    """A file that flowsim run has written."""
    output: Annotated[OptionalPath, arg(metavar="FILE.json")] = None
    """File of the certificate (default: certificate.json beside the run)."""


@dataclass(frozen=True)
class VerifyConfig:
    """Prove the statement of a certificate again, from its file alone.

    Uses exact fractions and ball arithmetic only, and nothing of the engine.
    """

    path: Annotated[Positional[Path], arg(metavar="CERTIFICATE.json")]
    """A file that flowsim certify has written."""
