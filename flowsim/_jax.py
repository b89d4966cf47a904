"""JAX in float64, inside flowsim's own calls only, and within the system's limits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

#: JAX's executables may stay until a process has this share of the maps it may have.
SHARE = 0.5


@contextmanager
def x64() -> Iterator[None]:
    """Enable JAX's 64-bit mode in a ``with`` block, in this thread; the user's setting returns.

    What is traced or computed outside is not touched: arrays made here keep float64, but
    operations on them elsewhere follow the user's setting. JAX is imported on entry.
    """
    jax: Any = import_module("jax")
    # jax.experimental.enable_x64 became jax.enable_x64 in jax 0.8 and is gone from 0.10.
    home = jax if hasattr(jax, "enable_x64") else import_module("jax.experimental")
    with home.enable_x64(True):
        yield


def make_room() -> None:
    """Let JAX forget its executables if this process nears Linux's limit on memory maps.

    JAX keeps all of them, and each takes three maps or more: a run of a new shape some hundred. At
    the limit (65530, unless the system's administrator has raised it) the next compilation ends
    the process with a segmentation fault. What is forgotten is made again when it is called.
    """
    jax = sys.modules.get("jax")
    if jax is not None and _maps() > SHARE * _most_maps():
        jax.clear_caches()


def _maps() -> int:
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:  # another system
        return 0


@cache
def _most_maps() -> float:
    try:
        return int(Path("/proc/sys/vm/max_map_count").read_text())
    except OSError:
        return float("inf")
