"""Where a result comes from: versions, command, commit."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np


def provenance() -> dict[str, str]:
    """Return versions, platform, command, time and (in a git work tree) the commit."""
    import numba
    import scipy

    import flowsim

    out = {
        "flowsim": flowsim.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "numba": numba.__version__,
        "platform": platform.machine(),
        "command": " ".join(sys.argv),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for package in ("jax", "diffrax", "equinox"):
        if package in sys.modules:  # engines that need them have loaded them
            out[package] = str(getattr(sys.modules[package], "__version__", ""))
    revision = _git_revision()
    if revision:
        out["git"] = revision
    return out


def _git_revision() -> str:
    """Return the commit of the working directory, if it is in a git work tree."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
