"""How many cores this process may use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Return the number of cores that the process may run on, where the system tells; else all."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
