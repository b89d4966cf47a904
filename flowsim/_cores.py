"""How many cores this process may use, and who uses them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_lock, _inside, _limit = Lock(), 0, ExitStack()


def available_cores() -> int:
    """Return the number of cores that the process may run on, where the system tells; else all."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _libraries() -> ThreadpoolController:
    """Return what sets the number of threads of the libraries that are loaded: found once."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def blas_on_one_core() -> Iterator[None]:
    """Let NumPy's and SciPy's linear algebra use one thread.

    Its threads wait for each other in busy loops, which slows all down where the other cores have
    work of their own. The first to come sets the limit, and the last to leave takes it back. Some
    libraries let only the main thread of a process set it.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _limit.enter_context(_libraries().limit(limits=1, user_api="blas"))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.close()
