"""What ``flowsim compare`` consists of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, Suppress, arg

from flowsim.config import (
    DataOptions,
    InitOptions,
    OptionalFloat,
    OptionalInt,
    OptionalPath,
    RunConfig,
)


@dataclass(frozen=True)
class CompareConfig:
    """Run the gradient flow and discrete descents from one start, and say how far apart they are.

    Prints a table with when and why each descent has left the flow, and writes compare.nc and
    compare.png.
    """

    source: Annotated[Positional[str], arg(metavar="NAME|FILE.toml|DATA.csv")]
    """A named system (three-points, orthogonal-pair, five-points, ...), a TOML file
    with the tables [data] and [init], of whose [run] t1 and loss are used, or data in a CSV or NPZ
    file."""
    data: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    init: OmitArgPrefixes[InitOptions] = field(default_factory=InitOptions)
    lr: Annotated[tuple[float, ...], arg(metavar="FLOAT [FLOAT ...]")] = (1e-1, 1e-2, 1e-3)
    """Learning rates."""
    optimizer: Annotated[
        tuple[Literal["gd", "log_norm", "momentum", "nesterov", "adam"], ...],
        arg(metavar="{gd,log_norm,momentum,nesterov,adam} [...]"),
    ] = ("gd",)
    """Optimizers; log_norm is gradient descent in directions and log-norms of w."""
    momentum: float = 0.9
    """Of momentum and nesterov."""
    batch_size: OptionalInt = None
    """Samples in a step's gradient (default: all)."""
    dtype: Literal["float64", "float32"] = "float64"
    """Precision of the descents' steps."""
    t1: OptionalFloat = None
    """Time to stop at (default: when the flow is stationary)."""
    loss: Literal["half_mean", "mean"] = "half_mean"
    """(1/2n) Σ r² or (1/n) Σ r², whose flow runs twice as fast."""
    threshold: float = 0.1
    """Relative distance at which a descent counts as having left the flow."""
    permute: Annotated[bool, arg(help_behavior_hint="")] = False
    """Compare neurons in the order in which they are closest."""
    sharpness: OptionalInt = None
    """Times at which the sharpness is computed (default: 24, none for large models)."""
    modified: Annotated[bool, arg(help_behavior_hint="")] = True
    """Follow the modified flow of gradient descent too, where the system is small: some seconds for
    each learning rate."""
    max_steps: int = 10_000_000
    """Number of steps to give a descent up after."""
    max_seconds: OptionalFloat = None
    """Seconds of computing time to give a descent up after."""
    output: OptionalPath = None
    """Folder of the results; files in it are replaced (default: a new one below runs)."""
    name: Suppress[str] = ""

    @property
    def label(self) -> str:
        """A short name for the folder: that of the system, or of the file, and what was done."""
        return f"{self.name or Path(self.source).stem.replace('_', '-')}-compare"

    @staticmethod
    def of_run(run: RunConfig) -> CompareConfig:
        """Return what a run's file says about its comparison."""
        return CompareConfig(
            source=run.source, data=run.data, init=run.init, loss=run.run.loss, t1=run.run.t1,
            name=run.name,
        )  # fmt: skip
