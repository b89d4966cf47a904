"""What a saved run holds: every array with its dimensions, unit and meaning.

`groups_of` flattens a `Solution` into named groups of arrays and attributes, and
`solution_of` builds it again from them; `flowsim.files` carries the groups to
netCDF4 files and to xarray. Nothing here reads or writes anything.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.events import EVENT_KINDS, FATES, Events
from flowsim.network import TwoLayerReLU
from flowsim.schema_models import SavedModel, model_group, model_of
from flowsim.schema_types import Attribute, Group, Variable
from flowsim.solution import (
    Alignment,
    DescentStates,
    Final,
    History,
    ModelStates,
    Restart,
    Solution,
    States,
)

#: Raised by one whenever a reader of the previous layout would misread a file.
FORMAT = 4


class Spec(NamedTuple):
    """Dimensions, meaning and unit of an array; `flags` are the names of its codes."""

    dims: tuple[str, ...]
    long_name: str
    units: str | None = "1"
    flags: tuple[int, tuple[str, ...]] | None = None


_FATES = (0, FATES)
_RATE = "largest norm of the field D_j of a living neuron"

EVENTS = {
    "t": Spec(("event",), "time of the event"),
    "kind_code": Spec(("event",), "kind of the event", None, (0, EVENT_KINDS)),
    "neuron": Spec(("event",), "index of the neuron, -1 where not applicable", None),
    "sample": Spec(("event",), "index of the sample, -1 where not applicable", None),
    "before": Spec(("event",), "activation (or sign of a_j) before, -1 off, 0 slide, 1 on", None),
    "after": Spec(("event",), "activation (or sign of a_j) after, -1 off, 0 slide, 1 on", None),
}
HISTORY = {
    "t": Spec(("step",), "time of the accepted step, or of a row"),
    "loss": Spec(("step",), "training loss in the run's normalisation"),
    "speed": Spec(("step",), "squared norm of the velocity of all parameters, -dL/dt"),
    "rate": Spec(("step",), _RATE),
    "alive": Spec(("step",), "number of living neurons; -1 for a model without such"),
}
STATES = {
    "step": Spec(("state",), "index of the state's step in the history", None),
    "t": Spec(("state",), "time of the state, rounded; the exact time is t + t_tail"),
    "t_tail": Spec(("state",), "what t has lost by rounding"),
    "neurons": Spec(
        ("state", "neuron", "parameter"),
        "mantissas of (a_j, w_j1, ..., w_jd); the values are neurons * 2**exponent",
    ),
    "exponent": Spec(("state", "neuron"), "binary exponent of the neuron", None),
    "sign": Spec(("state", "neuron"), "sign of a_j", None),
    "code": Spec(
        ("state", "neuron", "hyperplane"),
        "side of the neuron at the hyperplane's normal; 0 where it slides",
        None,
        (-1, ("negative", "slide", "positive")),
    ),
    "fate": Spec(("state", "neuron"), "what has become of the neuron", None, _FATES),
    "gap": Spec(("neuron",), "mantissa of the conserved a_j^2 - |w_j|^2 = gap * 4**gap_exponent"),
    "gap_exponent": Spec(("neuron",), "exponent of the conserved gap", None),
}
RESTART = {
    "neuron": Spec(("chosen",), "neuron on a hyperplane whose side has been chosen already", None),
    "hyperplane": Spec(("chosen",), "that hyperplane", None),
    "slot": Spec(("row",), "place of the neuron's cell in sums over cells, -1 for none", None),
    "free": Spec(("free_slot",), "places of cells to come, the next one last", None),
    "leader": Spec(("part",), "row that the neuron is a part of, if several go on as one", None),
    "share": Spec(("part",), "mantissa of the neuron over that row"),
    "share_exponent": Spec(("part",), "binary exponent of the neuron over that row", None),
    "leaders": Spec(("leader", "parameter"), "(a, w) of the rows over 2**leader_exponent"),
    "leader_exponent": Spec(("leader",), "binary exponent of the row (scaled)", None),
    "leader_gap": Spec(("leader",), "mantissa of the row's a^2 - |w|^2"),
    "leader_gap_exponent": Spec(("leader",), "exponent of the row's a^2 - |w|^2", None),
}
DESCENT_STATES = {
    "step": STATES["step"],
    "iteration": Spec(("state",), "number of steps taken", None),
    "t": STATES["t"],
    "t_tail": STATES["t_tail"],
    "parameters": Spec(("state", "parameter"), "all parameters, in the order of the model's"),
    "memory": Spec(("state", "number"), "what the optimizer remembers"),
    "history_iteration": Spec(("row",), "number of steps taken at rows of the history", None),
}
MODEL_STATES = {
    "step": STATES["step"],
    "t": Spec(("state",), "time of the state"),
    "parameters": Spec(("state", "parameter"), "all parameters, in the order of the model's"),
    "velocity": Spec(("state", "parameter"), "their first derivatives in time"),
    "acceleration": Spec(("state", "parameter"), "their second derivatives in time"),
}

ALIGNMENT = {
    "end_time": Spec((), "end of the early alignment phase; nan if it has not ended"),
    "threshold": Spec((), "relative departure of the residual from y that ends the phase"),
    "epsilon": Spec((), "part of ln(1/scale) of the predicted time and of the other definitions"),
    "predicted_time": Spec((), "epsilon ln(1/scale) / rate"),
    "rate": Spec((), "largest norm of the extremal vectors that neurons grow along"),
    "alive": Spec(("neuron",), "whether the neuron was alive at the end time", None),
    "extremal": Spec(
        ("neuron",), "extremal vector that the neuron tends to while r = y, -1 for none", None
    ),
    "angle": Spec(("neuron",), "angle between w_j and that vector's at the end time", "radian"),
    "frozen_angle": Spec(
        ("neuron",), "angle between w_j and where r = y has it at the end time", "radian"
    ),
    "D": Spec(("extremal_vector", "input"), "extremal vectors that neurons tend to while r = y"),
    "norm": Spec(("extremal_vector",), "their norms"),
    "direction": Spec(("extremal_vector", "input"), "unit vectors w = +-D/|D|"),
    "code": Spec(("extremal_vector", "hyperplane"), STATES["code"].long_name, None),
}
FINAL = {
    "t": Spec((), "time of the final state"),
    "loss": Spec((), "training loss of the final state"),
    "gradient_norm": Spec((), "norm of the subgradient of least norm"),
    "limit_loss": Spec((), "least-squares loss of the occupied cells; nan if not at rest"),
    "floor_loss": Spec((), "infimum of the loss over networks of any width"),
    "lowest_curvature": Spec((), "lowest eigenvalue of the Hessian; nan where it is not known"),
    "highest_curvature": Spec((), "highest eigenvalue of the Hessian; nan where it is not known"),
    "fate": Spec(("neuron",), "what has become of the neuron", None, _FATES),
    "code": Spec(("neuron", "hyperplane"), STATES["code"].long_name, None, STATES["code"].flags),
}
#: What files of older formats lack, and what stands for it.
_ADDED = MappingProxyType(
    {
        "lowest_curvature": np.nan,
        "highest_curvature": np.nan,
        **{name: [] for name, spec in RESTART.items() if spec.dims[0] in ("part", "leader")},
    }
)
NETWORK = {
    "a": Spec(("neuron",), "output weights; 0 where they underflow"),
    "W": Spec(("neuron", "input"), "input weights; 0 where they underflow"),
    "direction": Spec(("neuron", "parameter"), "unit vectors along (a_j, w_j1, ..., w_jd)"),
    "log_norm": Spec(("neuron",), "natural logarithm of the norm of (a_j, w_j)"),
    "scaled": Spec(("neuron", "parameter"), "(a_j, w_j) as given, up to a power of two"),
}
DATA = {
    "X": Spec(("sample", "input"), "inputs"),
    "y": Spec(("sample",), "labels"),
    "X_exact": Spec(("sample", "input"), "inputs as exact rationals", None),
    "y_exact": Spec(("sample",), "labels as exact rationals", None),
    "teacher": Spec(("input",), "vector of the linear teacher"),
    "normals": Spec(("hyperplane", "input"), "unit normals of the activation boundaries"),
    "hyperplane_of_sample": Spec(("sample",), "index of the sample's hyperplane", None),
    "orientation": Spec(("sample",), "sign of the sample along its hyperplane's normal", None),
}


def groups_of(solution: Solution) -> dict[str, Group]:
    """Return the groups of a solution by name; "" is the root, which has attributes only."""
    alignment, final = solution.alignment, solution.final
    groups = {"": Group({}, _root(solution))}
    if solution.data is not None:
        groups["data"] = _data_group(solution.data)
    if (restart := solution.restart) is not None:
        groups["restart"] = Group(_variables(restart, RESTART), dict(restart.memory))
    return {
        **groups,
        "initial": _start_group(solution.initial),
        "events": _table_group(solution.events, EVENTS),
        "history": _table_group(solution.history, HISTORY),
        "states": _table_group(solution.states, _states_of(solution.states)),
        "alignment": Group(_variables(alignment, ALIGNMENT), {"definition": alignment.definition}),
        "final": Group(
            _variables(final, FINAL),
            {
                "kind": final.kind,
                "reason": final.reason,
                "limit_loss_exact": final.limit_loss_exact,
                "certificate": _said(final.certificate),
            },
        ),
        "final/network": _end_group(solution.initial, final.network),
    }


def _root(solution: Solution) -> dict[str, Attribute]:
    relu = isinstance(solution.initial, TwoLayerReLU)
    flow = "descent" if isinstance(solution.states, DescentStates) else "gradient flow"
    what = "a two-layer ReLU network" if relu else "a model"
    on = "" if solution.data is None else f" on {solution.data.name}"
    root: dict[str, Attribute] = {
        "title": f"{flow} of {what}{on}",
        "Conventions": "CF-1.11",
        "source": "flowsim",
        "flowsim_format": FORMAT,
        "status": solution.status,
        "message": solution.message,
    }
    for prefix in ("settings", "provenance", "audit"):
        root |= {f"{prefix}_{key}": value for key, value in getattr(solution, prefix).items()}
    return root


def _states_of(states: States | ModelStates | DescentStates) -> dict[str, Spec]:
    if isinstance(states, DescentStates):
        return DESCENT_STATES
    return STATES if isinstance(states, States) else MODEL_STATES


def _states(group: Group, relu: bool) -> States | ModelStates | DescentStates:
    if "memory" in group.variables:
        return DescentStates(**_values(group, DESCENT_STATES))
    return _table(group, States if relu else ModelStates)


def _start_group(initial: Any) -> Group:
    if isinstance(initial, TwoLayerReLU):
        return _network_group(initial)
    parameters = initial[1] if isinstance(initial, tuple) else initial
    if isinstance(initial, SavedModel):
        parameters = initial.parameters
    return model_group(initial, parameters)


def _end_group(initial: Any, network: Any) -> Group:
    if isinstance(network, TwoLayerReLU):
        return _network_group(network)
    return model_group(initial, network.parameters if isinstance(network, SavedModel) else network)


def solution_of(groups: dict[str, Group]) -> Solution:
    """Build the solution again from the groups that `groups_of` has made of one.

    Parameters
    ----------
    groups : dict

    Raises
    ------
    KeyError
        If a group, a variable or an attribute is missing.
    """
    root = groups[""].attrs
    data = _dataset(groups["data"]) if "data" in groups else None
    alignment, final = groups["alignment"], groups["final"]
    relu = "kind" not in groups["initial"].attrs
    read = _network if relu else model_of
    initial: Any = read(groups["initial"])
    network: Any = read(groups["final/network"])
    return Solution(
        data=data,
        initial=initial,
        settings=_with_prefix(root, "settings_"),
        status=str(root["status"]),
        message=str(root["message"]),
        events=_events(groups["events"]),
        history=_table(groups["history"], History),
        states=_states(groups["states"], relu),
        alignment=Alignment(
            **_values(alignment, ALIGNMENT),
            definition=str(alignment.attrs["definition"]),
            _cells=_cells(data, initial, root) if relu else None,
        ),
        final=Final(
            **_values(final, FINAL),
            network=network,
            kind=str(final.attrs["kind"]),
            reason=str(final.attrs["reason"]),
            limit_loss_exact=str(final.attrs["limit_loss_exact"]),
            certificate=_certificate(str(final.attrs.get("certificate", ""))),
        ),
        audit=_with_prefix(root, "audit_"),
        provenance=_with_prefix(root, "provenance_"),
        restart=_restart(groups["restart"]) if "restart" in groups else None,
    )


def _said(certificate: Any) -> str:
    """Return what a certificate says as text; files of many neurons need not hold its claim."""
    if certificate is None:
        return ""
    from flowsim.certificates.says import to_text

    return to_text(certificate)


def _certificate(text: str) -> Any:
    if not text:
        return None
    from flowsim.certificates.says import from_text

    return from_text(text)


def _restart(group: Group) -> Restart:
    memory = {name: float(value) for name, value in group.attrs.items()}
    return Restart(**_values(group, RESTART), memory=memory)


def _cells(data: Any, initial: TwoLayerReLU, root: dict[str, Attribute]) -> Cells:
    slope, loss = initial.negative_slope, str(root["settings_loss"])
    return Cells.of(data, slope, loss, np.zeros(data.n))


def with_code(solution: Solution, model: Any) -> Solution:
    """Return a solution with the code of `model`, if its file has not had the code.

    Raises
    ------
    ValueError
        If the parameters have other shapes than those of `model`.
    """
    from flowsim.models.objective import with_parameters

    if not isinstance(solution.initial, SavedModel):
        return solution
    saved = (solution.initial, solution.final.network)
    initial, network = (with_parameters(model, list(s.parameters.values())) for s in saved)
    network = network[1] if isinstance(network, tuple) else network
    return replace(solution, initial=initial, final=replace(solution.final, network=network))


def _variable(values: Any, spec: Spec) -> Variable:
    values = np.asarray(values)
    attrs: dict[str, Attribute] = {"long_name": spec.long_name}
    if spec.units is not None:
        attrs["units"] = spec.units
    if spec.flags is not None:
        first, meanings = spec.flags
        codes = np.arange(first, first + len(meanings))
        attrs["flag_values"] = codes.astype(values.dtype)
        attrs["flag_meanings"] = " ".join(meanings)
    return Variable(values, spec.dims, attrs)


def _variables(source: Any, specs: dict[str, Spec]) -> dict[str, Variable]:
    return {name: _variable(getattr(source, name), spec) for name, spec in specs.items()}


def _values(group: Group, specs: dict[str, Spec]) -> dict[str, Any]:
    """Return arrays, and Python numbers for what has no dimension."""
    values = {
        name: group.variables[name].values
        if name in group.variables or name not in _ADDED
        else np.array(_ADDED[name])
        for name in specs
    }
    return {name: value if value.ndim else value.item() for name, value in values.items()}


def _table_group(table: Any, specs: dict[str, Spec]) -> Group:
    return Group(_variables(table, specs), time="t")


def _table(group: Group, cls: Any) -> Any:
    return cls(**{item.name: group.variables[item.name].values for item in fields(cls)})


def _events(group: Group) -> Events:
    """Return the events with today's codes of the kinds that the file names."""
    events = _table(group, Events)
    names = str(group.variables["kind_code"].attrs["flag_meanings"]).split()
    codes = np.array([EVENT_KINDS.index(name) for name in names], dtype=np.int8)
    return Events(**{**vars(events), "kind_code": codes[events.kind_code]})


def _data_group(data: Dataset) -> Group:
    arrays: dict[str, Any] = {
        name: getattr(data, name) for name in ("X", "y", "teacher", "normals")
    }
    arrays |= {"hyperplane_of_sample": data.hyperplane, "orientation": data.orientation}
    if data.rational:
        arrays["X_exact"] = np.array([[str(x) for x in row] for row in data.X_exact], dtype=object)
        labels = [str(y) for y in np.array(data.y_exact, dtype=object).ravel()]
        arrays["y_exact"] = np.array(labels, dtype=object).reshape(data.y.shape)
    attrs: dict[str, Attribute] = {"name": data.name}
    attrs |= {
        key: getattr(data, key) for key in ("noise", "inputs") if getattr(data, key) is not None
    }
    present = {name: value for name, value in arrays.items() if value is not None}
    specs = {name: DATA[name] for name in present}
    if data.y.ndim == 2:
        specs |= {name: _per_output(specs[name]) for name in ("y", "y_exact") if name in specs}
    return Group({name: _variable(present[name], specs[name]) for name in present}, attrs)


def _per_output(spec: Spec) -> Spec:
    return spec._replace(dims=(*spec.dims, "output"))


def _dataset(group: Group) -> Dataset:
    arrays = {name: variable.values for name, variable in group.variables.items()}
    noise, inputs = group.attrs.get("noise"), group.attrs.get("inputs")
    return Dataset(
        arrays.get("X_exact", arrays["X"]),
        arrays.get("y_exact", arrays["y"]),
        name=str(group.attrs["name"]),
        teacher=arrays.get("teacher"),
        noise=None if noise is None else float(noise),
        inputs=None if inputs is None else str(inputs),
    )


def _network_group(net: TwoLayerReLU) -> Group:
    attrs: dict[str, Attribute] = {
        "negative_slope": net.negative_slope,
        "metadata": json.dumps(dict(net.metadata), default=_plain),
    }
    arrays = {item.name.removeprefix("_"): getattr(net, item.name) for item in fields(net)}
    return Group({name: _variable(arrays[name], NETWORK[name]) for name in NETWORK}, attrs)


def _network(group: Group) -> TwoLayerReLU:
    # As unpickling does: the constructor would normalise, and so round, once more.
    net = object.__new__(TwoLayerReLU)
    values: dict[str, Any] = _values(group, NETWORK)
    for array in values.values():
        array.setflags(write=False)
    values["negative_slope"] = float(group.attrs["negative_slope"])
    values["metadata"] = json.loads(str(group.attrs["metadata"]))
    for item in fields(TwoLayerReLU):
        object.__setattr__(net, item.name, values[item.name.removeprefix("_")])
    return net


def _plain(value: Any) -> Any:
    """Return NumPy values as JSON can hold them."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else str(value)


def _with_prefix(attrs: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): attrs[key] for key in attrs if key.startswith(prefix)}
