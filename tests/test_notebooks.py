"""Notebooks: each is converted and executed, and what it asserts holds."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.py"))
#: Run before a notebook: warnings of flowsim, and of the notebook's own lines, are errors.
STRICT = 'import warnings; warnings.filterwarnings("error", module=r"flowsim|__main__")'
SECONDS = 120


@pytest.fixture(autouse=True)
def nothing_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Jupyter and IPython from reading or writing in the home folder."""
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))


def execute(script: Path, folder: Path) -> list:
    """Convert a percent script to a notebook in `folder`, run it there and return its cells."""
    with warnings.catch_warnings():
        # Those of Jupyter's own machinery, in this process; flowsim runs in the kernel's.
        warnings.simplefilter("ignore")
        import jupytext
        import nbformat
        from ipykernel.kernelspec import get_kernel_dict
        from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient

        class ThisPython(KernelSpecManager):
            """The interpreter of the tests, whatever kernels are installed."""

            def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
                return KernelSpec(resource_dir="", **get_kernel_dict())

        path = folder / script.with_suffix(".ipynb").name
        jupytext.write(jupytext.read(script), path)
        notebook = nbformat.read(path, as_version=4)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(STRICT))
        manager = AsyncKernelManager(kernel_spec_manager=ThisPython())
        client = NotebookClient(
            notebook, km=manager, timeout=SECONDS, resources={"metadata": {"path": str(folder)}}
        )
        client.execute(cleanup_kc=True)  # the manager is ours, and so is its end
    return notebook.cells[1:]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_what_it_asserts_holds(script: Path, tmp_path: Path) -> None:
    cells = [cell for cell in execute(script, tmp_path) if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert sum("assert" in cell.source for cell in cells) >= len(cells) // 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("assert 1 + 1 == 3", "AssertionError"),
        ("import warnings; warnings.warn('old')", "UserWarning"),
    ],
)
def test_a_notebook_that_is_wrong_fails(tmp_path: Path, line: str, reason: str) -> None:
    from nbclient.exceptions import CellExecutionError

    script = tmp_path / "wrong.py"
    script.write_text(f"# %%\nprint('begins')\n\n# %%\n{line}\n")
    with pytest.raises(CellExecutionError, match=reason):
        execute(script, tmp_path)
