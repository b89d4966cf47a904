"""How the engine's kernels are compiled."""

from __future__ import annotations

from numba import njit

compiled = njit(cache=True, nogil=True, error_model="numpy")
#: Calls with tuples of arrays count a reference to each of these, unless they are inlined.
inlined = njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
#: Sums may be taken in any order, which lets the compiler use vector registers.
summing = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz", "contract"})
