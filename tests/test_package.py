"""The package itself: quick to import, with the names it promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

import flowsim

HEAVY = ("numpy", "numba", "scipy", "xarray", "h5netcdf", "matplotlib", "tqdm", "tyro")


def run(code: str) -> str:
    """Return what `code` prints in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    loaded = run(f"import sys, flowsim; print([name for name in {HEAVY} if name in sys.modules])")
    assert loaded == "[]"


def test_networks_and_data_need_numpy_only():
    loaded = run(
        "import sys, flowsim as fs; fs.init.balanced(4, 2, 1.0, 0).pattern(fs.datasets.xor());"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert loaded == "['numpy']"


@pytest.mark.parametrize("name", flowsim.__all__)
def test_every_public_name_exists(name):
    assert getattr(flowsim, name) is not None
    assert name in dir(flowsim)


def test_a_submodule_does_not_hide_the_function_of_its_name():
    assert run("import flowsim.simulate; print(type(flowsim.simulate).__name__)") == "function"
    code = (
        "import flowsim; from flowsim.simulate import simulate as s; print(flowsim.simulate is s)"
    )
    assert run(code) == "True"


def test_unknown_names_raise_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'flowsim' has no attribute 'nothing'"):
        _ = flowsim.nothing  # type: ignore[attr-defined]
