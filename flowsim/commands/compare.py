"""``flowsim compare``: the flow against discrete descent, as a table, a file and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowsim.commands.folders import output_folder

if TYPE_CHECKING:
    from pathlib import Path

    from flowsim.comparing.result import Comparison
    from flowsim.config_compare import CompareConfig


def compare(config: CompareConfig) -> bool:
    """Compare the flow with descents, save, draw and report it; return whether the flow ended."""
    from flowsim.comparing import compare
    from flowsim.config_build import build_data, build_model
    from flowsim.progress import ProgressBar

    data = build_data(config)
    net = build_model(config.init, data.d)
    optimizers = _optimizers(config)
    names = ("t1", "max_seconds", "sharpness")
    optional: dict[str, Any] = {name: getattr(config, name) for name in names}
    optional["modified"] = None if config.modified else False  # None: where the system is small
    with output_folder(config.output, config.label) as folder:
        with ProgressBar() as progress:
            found = compare(
                net, data, config.lr, optimizers, loss=config.loss, threshold=config.threshold,
                permute=config.permute, max_steps=config.max_steps, progress=progress,
                **{name: value for name, value in optional.items() if value is not None},
            )  # fmt: skip
        return _written(found, folder)


def _optimizers(config: CompareConfig) -> list[Any]:
    """Return engines with the options of all; their learning rates are replaced."""
    from flowsim.engines.descent.config import Descent

    rate = config.lr[0] if config.lr else 1.0
    return [
        Descent(
            "gd" if name == "log_norm" else name,
            rate,
            momentum=config.momentum,
            batch_size=config.batch_size,
            dtype=config.dtype,
            coordinates="log_norm" if name == "log_norm" else "weights",
        )
        for name in config.optimizer
    ]


def _written(found: Comparison, folder: Path) -> bool:
    from flowsim.files import replacing

    written = [folder / "compare.nc", folder / "compare.png"]
    try:  # report what has been computed, whatever fails
        found.save(written[0])
        with replacing(written[1]) as temporary:
            found.plot().savefig(temporary, format="png")
    finally:
        print("\n".join([found.table(), "", "Files", *(f"  {path}" for path in written)]))
    return not found.flow.failed
