"""``flowsim extremal`` and ``flowsim align``: tables and pictures of early alignment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowsim.commands.errors import CommandError
from flowsim.commands.folders import output_folder

if TYPE_CHECKING:
    from flowsim.alignment.flow import AlignmentFlow
    from flowsim.config_alignment import AlignConfig, ExtremalConfig


def extremal(config: ExtremalConfig) -> bool:
    """Print the extremal vectors of data, or write them to a file; return True."""
    from flowsim.alignment.extremal import extremal_vectors
    from flowsim.config_build import build_data
    from flowsim.files import replacing

    given = {} if config.samples is None else {"samples": config.samples}
    vectors = extremal_vectors(
        build_data(config),
        negative_slope=config.negative_slope,
        loss=config.loss,
        exact=config.exact,
        method=config.method,
        seed=config.seed,
        **given,
    )
    text = vectors.to_latex() if config.latex else f"{vectors}\n"
    if config.output is None:
        print(text, end="")
        return True
    with replacing(config.output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"Files\n  {config.output}")
    return True


def align(config: AlignConfig) -> bool:
    """Follow early alignment, report it and draw it; return whether all events were found."""
    from flowsim.config_build import build_data, build_network

    _check(config)
    data = build_data(config)
    if config.init.activation != "relu":
        raise ValueError(
            "Option --activation must be relu for the closed form, but is "
            f"{config.init.activation}."
        )
    net = build_network(config.init, data.d)
    with output_folder(config.output, config.label) as folder:
        flow = _flow(config, net, data)
        written: list[str] = []
        try:
            _draw(flow, folder, config, written)
        finally:  # report what has been computed and written, whatever fails
            listed = [f"  {name}" for name in written] or ["  none"]
            print("\n".join([_summary(flow), "", "Files", *listed]))
    if flow.status == "stuck":
        print(f"flowsim: warning: {flow.message}", file=sys.stderr)
    return flow.status != "stuck"


def _check(config: AlignConfig) -> None:
    """Refuse what the library would refuse too, but after the computation."""
    if config.t is not None and config.angle is not None:
        raise CommandError("Option --angle must not be given with --t, which says when to stop.")
    if config.angle is not None and not 0.0 < config.angle < 90.0:
        raise CommandError(
            f"Option --angle must lie between 0 and 90 degrees, but is {config.angle:g}."
        )
    if config.frames < 2:
        raise CommandError(f"Option --frames must be at least 2, but is {config.frames}.")
    if not 0.0 < config.seconds < np.inf:
        raise CommandError(
            f"Option --seconds must be positive and finite, but is {config.seconds:g}."
        )


def _flow(config: AlignConfig, net, data) -> AlignmentFlow:
    from flowsim.alignment.flow import flow, until

    # Neither the summary nor the pictures need the paths.
    if config.t is not None:
        return flow(net, data, config.t, loss=config.loss, record=False)
    angle = None if config.angle is None else float(np.radians(config.angle))
    return until(net, data, angle=angle, loss=config.loss, record=False)


def _summary(flow: AlignmentFlow) -> str:
    from flowsim.alignment._report import summary

    return summary(flow)


def _draw(flow: AlignmentFlow, folder: Path, config: AlignConfig, written: list[str]) -> None:
    """Write the pictures that the data allow; append their names, with remarks, to `written`."""
    from flowsim import plot
    from flowsim.files import replacing

    path = folder / "align.png"
    with replacing(path) as temporary:
        plot.alignment_figure(flow).savefig(temporary, format="png")
    written.append(str(path))
    path = folder / "align.gif"
    if flow.data.d in (2, 3):
        plot.animate(flow, path, frames=config.frames, seconds=config.seconds)
        written.append(str(path))
    elif path.exists():
        written.append(f"{path} (of an earlier run: these data have no such picture)")
