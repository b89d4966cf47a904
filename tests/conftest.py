"""Compiled code of the tests lives apart.

Numba's cache looks only at the file of the outermost function: after a change in
`roots.py` alone it would go on using the old code inside `detection.py`'s kernels. So its key
is all sources. JAX keys its own by what is compiled; test processes share it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = sorted(
    path
    for path in (_ROOT / "flowsim").rglob("*.py")
    if "njit" in path.read_text("utf-8") or "compiled" in path.read_text("utf-8")
)
_KEY = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()[:16]
os.environ["NUMBA_CACHE_DIR"] = str(_ROOT / ".numba_cache" / _KEY)
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_ROOT / ".jax_cache")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"


@pytest.fixture(autouse=True, scope="module")
def _room_for_executables() -> None:
    """All tests of a process together would come to Linux's limit on memory maps."""
    from flowsim._jax import make_room

    make_room()
