"""How the engine's kernels are compiled."""

from __future__ import annotations

from typing import Any

from numba import njit, types
from numba.extending import intrinsic

_BARE: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
_OWNING: dict[str, Any] = {**_BARE, "_nrt": True}
#: Kernels hold no references to arrays, since their callers do: each row that they take, and each
#: array from a tuple, would count one, which is an atomic operation on memory that all threads
#: share. So they can make no arrays, nor copy one onto another with ``a[:] = b``.
compiled = njit(**_BARE)
#: Tuples of arrays are passed by many registers, unless calls are inlined.
inlined = njit(**_BARE, forceinline=True)
#: Sums may be taken in any order, which lets the compiler use vector registers.
summing = njit(**_BARE, fastmath={"reassoc", "nsz", "contract"})
#: Those that do make arrays. What they get should be `borrowed`, if they have long loops.
allocating = njit(**_OWNING)


def _borrowed(typingctx: Any, value: Any) -> Any:
    """Return an array, or a tuple of what may hold arrays, whose references nobody counts.

    The kernel's caller holds the arrays.
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
