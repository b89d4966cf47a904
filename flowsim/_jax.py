"""JAX in float64, inside flowsim's own calls only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


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
