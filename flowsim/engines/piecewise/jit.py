"""How the engine's kernels are compiled."""

from __future__ import annotations

from typing import Any

from numba import njit, types
from numba.extending import intrinsic

compiled = njit(cache=True, nogil=True, error_model="numpy")
#: Calls with tuples of arrays count a reference to each of these, unless they are inlined.
inlined = njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
#: Sums may be taken in any order, which lets the compiler use vector registers.
summing = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz", "contract"})


def _borrowed(typingctx: Any, value: Any) -> Any:
    """Return an array, or a tuple of what may hold arrays, whose references nobody counts.

    Every row that a kernel takes, and every array that it takes from a tuple, counts a reference:
    an atomic operation on memory that all threads share, which makes them wait for each other. The
    kernel's caller holds the arrays, so that none of this is needed.
    """

    def without_owners(context: Any, builder: Any, kind: Any, value: Any) -> Any:
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, builder, value)
            for owner in ("meminfo", "parent"):
                setattr(array, owner, context.get_constant_null(types.voidptr))
            return array._getvalue()
        parts: Any = kind
        if isinstance(kind, types.BaseTuple):
            for i, part in enumerate(parts.types):
                member = without_owners(context, builder, part, builder.extract_value(value, i))
                value = builder.insert_value(value, member, i)
        return value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return without_owners(context, builder, signature.args[0], args[0])

    return value(value), generate


borrowed: Any = intrinsic(_borrowed)
