"""Solutions as netCDF4 files and as xarray trees.

A file has the groups of `flowsim.schema`. It is written and read through h5netcdf
itself, so that a run on the command line need not import xarray, and it is the
same file that ``solution.to_xarray().to_netcdf`` would make:
``xarray.open_datatree("run.nc")`` opens it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.schema import FORMAT, groups_of, solution_of, with_code
from flowsim.schema_types import Group, Variable

if TYPE_CHECKING:
    import h5netcdf
    import xarray

    from flowsim.solution import Solution

StrPath = str | os.PathLike[str]

#: Title of the files of comparisons, which are no runs.
COMPARISON = "gradient flow beside discrete descent"
#: Compressed in pieces of about this many values; smaller arrays are stored plainly.
_CHUNK = 2**17
_SMALL = 2**10


def to_xarray(solution: Solution) -> xarray.DataTree:
    """Return a solution as a tree of datasets, one a group.

    Parameters
    ----------
    solution : Solution

    Returns
    -------
    xarray.DataTree
        With the groups ``data``, ``initial``, ``events``, ``history``, ``states``,
        ``alignment``, ``final`` and ``final/network``. Settings, provenance and audit
        figures are attributes of the root; coded arrays have the CF attributes
        ``flag_values`` and ``flag_meanings``.
    """
    import xarray

    datasets = {}
    for path, group in groups_of(solution).items():
        variables = {
            name: xarray.Variable(v.dims, v.values, v.attrs) for name, v in group.variables.items()
        }
        coordinates = {group.time: variables.pop(group.time)} if group.time else {}
        datasets[f"/{path}"] = xarray.Dataset(variables, coordinates, group.attrs)
    return xarray.DataTree.from_dict(datasets)


def save(solution: Solution, path: StrPath) -> None:
    """Write a solution to one netCDF4 file, compressed without loss.

    The file is complete or not there: it is written under a temporary name beside
    `path` and moved into place, so an earlier file is lost only to a complete one.

    Parameters
    ----------
    solution : Solution
    path : path-like
        The file, ``.nc`` by custom.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    import h5netcdf

    # Made in memory: on a disk that is full, HDF5 itself would crash the process.
    image = io.BytesIO()
    with h5netcdf.File(image, "w") as file:
        for name, group in groups_of(solution).items():
            _write(file.create_group(name) if name else file, group)
    with replacing(path) as temporary:
        temporary.write_bytes(image.getbuffer())


def load(path: StrPath, model: Any = None) -> Solution:
    """Read a solution that `save` has written, dense output included.

    Parameters
    ----------
    path : path-like
    model : Any, optional
        As `simulate` was given it, for a run of an equinox module or of a loss function: a file
        has their parameters, but not their code. Without it the solution has no dense output.

    Returns
    -------
    Solution
        Equal to the one saved, bit by bit.

    Raises
    ------
    OSError
        If the file cannot be read, or is no netCDF4 file, or is damaged.
    ValueError
        If it is a netCDF4 file that flowsim has not written, or a newer flowsim has; or if
        `model` has parameters of other shapes.
    """
    import h5netcdf
    import h5py

    if not Path(path).is_file():
        reason = "a folder" if Path(path).is_dir() else "not there"
        raise _no_such_file(reason)(
            f"Argument `path` must name a saved run, but {Path(path)} is {reason}."
        )
    try:
        # h5netcdf complains on stderr about a file that it cannot open, h5py does not.
        with h5py.File(path, "r") as raw:
            attrs = {key: _plain(value) for key, value in raw.attrs.items()}
            with h5netcdf.File(raw, "r") as file:
                groups = dict(_read(file, ""))
    except PermissionError:
        raise PermissionError(
            f"Argument `path` must name a readable file, but {path} is not one."
        ) from None
    except Exception as error:
        # A damaged file raises whatever its bytes lead to; the text tells a cut one apart.
        what = "cut short" if "truncated" in str(error) else "damaged or no netCDF4 file"
        raise OSError(f"Argument `path` must name a saved run, but {path} is {what}.") from None
    if attrs.get("title") == COMPARISON:
        raise ValueError(
            f"Argument `path` must name a saved run, but {path} is a comparison of runs; open it "
            "with xarray.open_dataset."
        )
    _check_format(attrs.get("flowsim_format"), path)
    try:
        solution = solution_of(groups)
    except Exception as error:
        raise ValueError(
            f"Argument `path` must name a complete saved run, but in {path} "
            f"something is missing or wrong: {error}."
        ) from error
    return solution if model is None else with_code(solution, model)


@contextmanager
def replacing(path: StrPath) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to, then move that file into place.

    If the block fails, the temporary file is removed and what was at `path` stays.

    Raises
    ------
    OSError
        One sentence that names `path`, in place of any OSError of the block.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if target.exists() and not target.is_file():
            raise OSError(0, "it is no regular file")  # a device would be replaced
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise type(error)(
            f"Argument `path` must name a file that can be written, but {Path(path)} cannot: "
            f"{_reason(error)}."
        ) from None
    finally:
        with suppress(OSError):  # moved, or never made
            temporary.unlink()


def write_xarray(tree: xarray.DataTree | xarray.Dataset, path: StrPath) -> None:
    """Write a tree or a dataset to one netCDF4 file, which replaces another at once.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    image = io.BytesIO()  # on a disk that is full, HDF5 itself would crash the process
    tree.to_netcdf(image, engine="h5netcdf")
    with replacing(path) as temporary:
        temporary.write_bytes(image.getbuffer())


def read_xarray(path: StrPath) -> xarray.DataTree:
    """Read what `write_xarray` has written, into memory.

    Raises
    ------
    OSError
        If it cannot be read, or is no netCDF4 file.
    """
    import xarray

    try:
        with xarray.open_datatree(path, engine="h5netcdf") as tree:
            return tree.load()
    except (OSError, ValueError, TypeError):
        raise OSError(
            f"Argument `path` must name a netCDF4 file that can be read, but {path} is none."
        ) from None


def check_path(path: Any) -> Path:
    """Return a path that results can be written to, before they are made.

    Raises
    ------
    TypeError
        If it is none.
    OSError
        If no file can be written there.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(path, bytes):
        raise TypeError(
            f"Argument `path` must be the name of a file, but is of type {type(path).__name__}."
        )
    checked = Path(path)
    try:
        if not checked.name or "\0" in str(checked):
            raise OSError(0, "it is no name of a file")
        checked.parent.mkdir(parents=True, exist_ok=True)
        if checked.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if checked.exists() and not checked.is_file():
            raise OSError(0, "it is no regular file")
        probe = checked.with_name(f".{checked.name}.{os.getpid()}.part")
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:
        reason = _reason(error) if isinstance(error, OSError) else str(error)
        raise OSError(
            f"Argument `path` must name a file that can be written, but {str(checked)!r} cannot: "
            f"{reason}."
        ) from None
    return checked


def _flush(path: Path) -> None:
    """Bring a file to the disk, so that the name never points to an empty one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    text = (error.strerror or str(error)).rstrip(".")
    return text[:1].lower() + text[1:]


def _no_such_file(reason: str) -> type[OSError]:
    return IsADirectoryError if reason == "a folder" else FileNotFoundError


def _write(target: h5netcdf.Group, group: Group) -> None:
    for variable in group.variables.values():
        for dim, size in zip(variable.dims, variable.values.shape, strict=True):
            if dim not in target.dimensions:
                target.dimensions[dim] = size
    for name, variable in group.variables.items():
        _write_variable(target, name, variable, group.time)
    target.attrs.update(group.attrs)


def _write_variable(
    target: h5netcdf.Group, name: str, variable: Variable, time: str | None
) -> None:
    values, attrs = variable.values, dict(variable.attrs)
    dtype: Any = values.dtype
    if dtype.kind == "O":
        import h5py

        dtype = h5py.string_dtype()
    elif dtype.kind == "b":  # netCDF has no booleans; this is how xarray writes them
        values, dtype = values.astype(np.int8), np.dtype(np.int8)
        attrs["dtype"] = "bool"
    if time is not None and name != time:
        attrs["coordinates"] = time
    storage = {}
    if values.size > _SMALL and dtype.kind != "O":
        row = max(values[0].size, 1)
        chunks = (max(1, min(len(values), _CHUNK // row)), *values.shape[1:])
        storage = {"chunks": chunks, "compression": "gzip", "compression_opts": 1, "shuffle": True}
    created = target.create_variable(name, variable.dims, dtype, **storage)
    if values.size:
        created[...] = values
    created.attrs.update(attrs)


def _read(source: h5netcdf.Group, path: str) -> Iterator[tuple[str, Group]]:
    variables = {name: _read_variable(v) for name, v in source.variables.items()}
    yield path, Group(variables, {key: _plain(value) for key, value in source.attrs.items()})
    for name, child in source.groups.items():
        yield from _read(child, f"{path}/{name}" if path else name)


def _read_variable(variable: h5netcdf.Variable) -> Variable:
    attrs = {key: _plain(value) for key, value in variable.attrs.items()}
    values = np.asarray(variable[...])
    if attrs.pop("dtype", None) == "bool":
        values = values.astype(bool)
    if values.dtype.kind == "O":
        decoded = [v.decode() if isinstance(v, bytes) else v for v in values.ravel()]
        values = np.array(decoded, dtype=object).reshape(values.shape)
    return Variable(values, variable.dimensions, attrs)


def _plain(value: Any) -> Any:
    return (
        value.item() if isinstance(value, (np.generic, np.ndarray)) and value.size == 1 else value
    )


def _check_format(found: Any, path: StrPath) -> None:
    if not isinstance(found, int):
        raise ValueError(
            f"Argument `path` must name a run that flowsim saved, but {path} is not one."
        )
    if found > FORMAT:
        raise ValueError(
            f"Argument `path` must name a run in format {FORMAT} or older, but {path} is in "
            f"format {found} of a newer flowsim."
        )
