"""Derivations of what flowsim's code relies on: one claim a file, checked by sympy.

Each file has a CLAIM, its SOURCE, the files that implement it (USED_BY), ``derive(d)``, which
writes down and checks the steps, and ``main()``, which prints them. ``python -m derivations``
lists them, ``python -m derivations --check`` derives all of them again.
"""

NAMES = (
    "conservation",
    "linear_flow",
    "directional_dynamics",
    "crossing_times",
    "sliding_field",
    "alignment_fixed_points",
    "growth_and_death",
    "one_sample",
    "symmetric_linear",
    "half_space_ols",
    "certificate",
    "certificate_kernel",
    "certificate_walls",
    "certificate_limits",
    "saddle_escape",
    "euler_error",
    "structured_step",
)
