"""Extremal vectors as a table, in text and in LaTeX."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from flowsim.alignment.extremal import ExtremalVector, ExtremalVectors

#: Patterns of more samples than this are given by their counts.
_LONGEST = 24


def text(vectors: ExtremalVectors) -> str:
    """Return a title and one line a vector."""
    flat = [_row(v) for v in vectors]
    header = ["pattern", "D", "‖D‖", "angle", "attracts", "η", "share"]
    columns = [[name, *(row[i] for row in flat)] for i, name in enumerate(header)]
    columns = [column for column in columns if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*columns, strict=True)
    ]
    return "\n".join([_title(vectors), *("  " + line for line in lines)])


def latex(vectors: ExtremalVectors) -> str:
    """Return a tabular."""
    header = ["pattern", "$D$", "$\\lVert D\\rVert$", "attracts", "$\\eta$"]
    rows = [
        [
            rf"\texttt{{{pattern(v.pattern)}}}",
            _latex_vector(v),
            _latex_norm(v),
            _latex_role(v),
            _latex_etas(v),
        ]
        for v in vectors
    ]
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    lines = [f"{' & '.join(row)} \\\\" for row in rows]
    return "\n".join(
        [
            f"\\begin{{tabular}}{{{'l' * len(header)}}}",
            f"{' & '.join(header)} \\\\ \\hline",
            *lines,
            "\\end{tabular}\n",
        ]
    )


def pattern(code: np.ndarray) -> str:
    """Return a pattern sample by sample, 1 on, 0 off, b on the boundary; counts if it is long."""
    if len(code) <= _LONGEST:
        return "".join("0b1"[side + 1] for side in code)
    on, off, sliding = (int(np.sum(code == side)) for side in (1, -1, 0))
    return f"{on} on, {off} off" + (f", {sliding} sliding" if sliding else "")


def _title(vectors: ExtremalVectors) -> str:
    count = len(vectors)
    what = f"{count} nonzero extremal vector{'s' * (count != 1)}"
    how = {
        "enumerate": f"all faces visited ({vectors.visited} visits)",
        "exact": f"all faces visited ({vectors.visited} visits), exact",
        "sample": f"from {vectors.visited} samples, others may exist",
        "given": "at given directions",
    }[vectors.method]
    zeros = len(vectors.zero)
    still = f"; {zeros} cell{'s' * (zeros != 1)} with D = 0" if zeros else ""
    share = vectors.dead_share
    where = "" if np.isnan(share) else f"; {share:.4f} of random neurons die or rest"
    other = vectors.other_share
    # Some of them may be fewer than four decimals show.
    share = f"{other:.4f}" if other >= 5e-5 else f"{other:.1e}"
    elsewhere = f"; {share} end elsewhere, where rounding decides ties" if other > 0 else ""
    return f"{what}, {how}{still}{where}{elsewhere}"


def _row(v: ExtremalVector) -> list[str]:
    values = [str(x) for x in v.exact.D] if v.exact else [f"{x:.10g}" for x in v.D]
    share = "" if np.isnan(v.share) else f"{v.share:.4f} ± {v.share_error:.4f}"
    angle = "" if np.isnan(v.angle) else f"{v.angle:.8f}°"
    return [
        pattern(v.pattern),
        f"({', '.join(values)})",
        f"{v.norm:.10g}",
        angle,
        _role(v),
        _etas(v),
        share,
    ]


def _role(v: ExtremalVector) -> str:
    if v.role.attracts == 0:
        return "saddle"
    return f"a {'>' if v.role.attracts > 0 else '<'} 0, {'grow' if v.role.grows else 'shrink'}"


def _etas(v: ExtremalVector) -> str:
    if v.exact:
        return ", ".join(str(eta) for eta in v.exact.multipliers.values())
    return ", ".join(f"{eta:.10g}" for eta in v.multipliers[v.pattern == 0])


def _latex_vector(v: ExtremalVector) -> str:
    entries = [_latex_fraction(x) for x in v.exact.D] if v.exact else [f"{x:.6g}" for x in v.D]
    return f"$({', '.join(entries)})$"


def _latex_fraction(x: Fraction) -> str:
    if x.denominator == 1:
        return str(x.numerator)
    sign = "-" if x < 0 else ""
    return rf"{sign}\tfrac{{{abs(x.numerator)}}}{{{x.denominator}}}"


def _latex_norm(v: ExtremalVector) -> str:
    if v.exact is None:
        return f"${v.norm:.6g}$"
    import sympy

    return f"${sympy.latex(v.exact.norm)}$"


def _latex_role(v: ExtremalVector) -> str:
    if v.role.attracts == 0:
        return "saddle"
    grows = "grow" if v.role.grows else "shrink"
    return f"$a {'>' if v.role.attracts > 0 else '<'} 0$, which {grows}"


def _latex_etas(v: ExtremalVector) -> str:
    if v.exact:
        etas = [_latex_fraction(eta) for eta in v.exact.multipliers.values()]
    else:
        etas = [f"{eta:.6g}" for eta in v.multipliers[v.pattern == 0]]
    return f"${', '.join(etas)}$" if etas else ""
