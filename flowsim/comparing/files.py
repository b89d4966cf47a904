"""A comparison as an xarray.Dataset, and in a netCDF file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from flowsim.files import COMPARISON, write_xarray

if TYPE_CHECKING:
    import xarray

    from flowsim.comparing.result import Comparison

_COLUMNS = {
    "loss": "loss of the descent",
    "flow_loss": "loss of the flow at that time",
    "distance": "|theta - theta_flow| / |theta_flow|",
    "output_distance": "|h - h_flow| / |y| at the data",
    "pattern_distance": "part of the activation codes that differ, but for slides",
    "flips": "part of the neurons whose a has another sign than in the flow",
    "gap_drift": "max |change of a^2 - |w|^2| / (a^2 + |w|^2)",
}
_MODIFIED = {
    "modified_distance": "distance of the descent from the modified flow",
    "modified_loss": "loss of the modified flow",
}


def to_xarray(comparison: Comparison) -> xarray.Dataset:
    """Return all that has been measured; columns are as long as the longest, the rest nan."""
    import xarray as xr

    runs = comparison.descents

    def ragged(dim: str, name: str, text: str) -> tuple[tuple[str, str], np.ndarray, dict]:
        columns = [np.asarray(getattr(x, name), np.float64) for x in runs]
        out = np.full((len(runs), max((len(c) for c in columns), default=0)), np.nan)
        for i, column in enumerate(columns):
            out[i, : len(column)] = column
        return ("descent", dim), out, {"long_name": text}

    def single(values: list, text: str) -> tuple[str, np.ndarray, dict]:
        return "descent", np.array(values), {"long_name": text}

    flow = comparison.flow
    return xr.Dataset(
        {
            "optimizer": single(
                [x.name for x in runs], "optimizer, or its coordinates, and options"
            ),
            "learning_rate": single([x.learning_rate for x in runs], "learning rate"),
            "dtype": single([x.engine.dtype for x in runs], "precision of the steps"),
            "t_end": single([x.run.t_end for x in runs], "time at which the descent has stopped"),
            "steps": single([x.run.steps for x in runs], "number of steps"),
            "status": single([x.run.status for x in runs], "why the descent has stopped"),
            "kind": single([x.run.final.kind for x in runs], "verdict on its end"),
            "final_loss": single([x.run.final.loss for x in runs], "loss at its end"),
            "final_pattern_distance": single(
                [x.final_pattern_distance for x in runs], "part of the final codes that differ"
            ),
            "departure": single([x.departure for x in runs], "when it has left the flow"),
            "stability": single([x.stability for x in runs], "sharpness at which it is unstable"),
            "edge": single([x.edge for x in runs], "when the sharpness first exceeds stability"),
            "events_matched": single(
                [x.events_matched for x in runs],
                "part of the flow's pattern changes that it has too",
            ),
            "why": single([comparison.why(x) for x in runs], "when and why it has left the flow"),
            "t": ragged("time", "t", "times of steps at which both are compared"),
            **{name: ragged("time", name, text) for name, text in _COLUMNS.items()},
            "modified_t": ragged("modified_time", "modified_t", "times of the modified flow"),
            **{name: ragged("modified_time", name, text) for name, text in _MODIFIED.items()},
            "sharpness_t": ragged("look", "sharpness_t", "times of the sharpness"),
            "sharpness": ragged("look", "sharpness", "largest eigenvalue of the Hessian"),
            "event_difference": ragged("match", "event_difference", "t minus that in the flow"),
            "flow_history_t": ("step", flow.history.t, {"long_name": "time of the flow"}),
            "flow_history_loss": ("step", flow.history.loss, {"long_name": "loss of the flow"}),
        },
        attrs={
            "title": COMPARISON,
            "source": "flowsim",
            "flow_kind": flow.final.kind,
            "flow_status": flow.status,
            "flow_final_loss": flow.final.loss,
            "threshold": comparison.threshold,
            **{f"provenance_{key}": value for key, value in flow.provenance.items()},
        },
    )


def save(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write `to_xarray` to a netCDF file, which replaces one of this name at once."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"Argument `path` must be the name of a file, but is of type {type(path).__name__}."
        )
    write_xarray(to_xarray(comparison), path)
