"""The command line: ``flowsim run`` and ``flowsim plot``.

Everything heavy is imported when it is needed, so that ``flowsim --help`` is instant.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowsim.config import PlotConfig, RunConfig
    from flowsim.solution import Solution

#: Exit codes: the run stopped for a reason that is a failure; the input is wrong; Ctrl-C.
FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130
#: Set this in the environment to see where an error comes from.
TRACEBACK = "FLOWSIM_TRACEBACK"
DESCRIPTION = "Exact-to-tolerance gradient flow of two-layer ReLU networks."
#: Where runs go that are given no folder.
RUNS = Path("runs")
COMMANDS = ("run", "plot")
_PICTURES = ("timeline", "directions", "function")


class CommandError(Exception):
    """An error in what was typed; its text is one sentence for the user."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; every error is one sentence on stderr.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, by default those of the process.

    Returns
    -------
    int
        0, or 1 if the run stopped before its end (its files are written all the same),
        2 for wrong input, 130 for Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # λ, on a terminal that knows no Greek
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        print("\nflowsim: interrupted; the run was not saved.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        print(f"flowsim: error: {_sentence(error)}", file=sys.stderr)
        return WRONG_INPUT


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["--version"]:
        from flowsim import __version__

        print(f"flowsim {__version__}")
        return 0
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        raise CommandError(
            f"The command must be one of {', '.join(COMMANDS)}, but is {arguments[0]!r}; "
            f"see flowsim --help."
        )
    from flowsim.config import PlotConfig, RunConfig

    config = _parse({"run": RunConfig, "plot": PlotConfig}, arguments or ["--help"])
    if config is None:
        return 0
    if isinstance(config, RunConfig):
        return run(_with_toml(config, arguments[1:]))
    return plot(config)


def run(config: RunConfig) -> int:
    """Integrate the flow that `config` describes, save it, draw it and report it."""
    from flowsim.config import build_data, build_network, simulate_arguments

    data = build_data(config)
    net = build_network(config.init, data.d)
    with _output_folder(config) as folder:
        solution = _simulate(net, data, simulate_arguments(config.run))
        written: list[str] = []
        try:  # save before anything else can fail, and report whatever else fails
            solution.save(folder / "run.nc")
            written.append(str(folder / "run.nc"))
            written += _draw(solution, folder)
        finally:
            print(solution.summary())
            _conclude(solution, written)
    return FAILED if solution.failed else 0


def plot(config: PlotConfig) -> int:
    """Draw the pictures of a saved run again."""
    from flowsim.files import load

    solution = load(config.path)
    folder = config.output or config.path.parent
    _make_folder(folder)
    _conclude(solution, _draw(solution, folder))
    return 0


def _simulate(net: Any, data: Any, arguments: dict[str, Any]) -> Solution:
    from flowsim.progress import ProgressBar
    from flowsim.simulate import simulate

    with ProgressBar() as progress:
        return simulate(net, data, progress=progress, **arguments)


def _draw(solution: Solution, folder: Path) -> list[str]:
    """Write the pictures that the data allow and return their names, with remarks."""
    from flowsim import plot
    from flowsim.files import replacing

    written = []
    for name in _PICTURES:
        path = folder / f"{name}.png"
        if name in plot.possible(solution):
            ax = getattr(plot, name)(solution)
            with replacing(path) as temporary:
                ax.figure.savefig(temporary, format="png")
            written.append(str(path))
        elif path.exists():
            written.append(f"{path} (of an earlier run: these data have no such picture)")
    return written


def _conclude(solution: Solution, files: list[str]) -> None:
    from flowsim.report import verdict

    listed = [f"  {name}" for name in files] or ["  none"]
    print("\n".join(["", "Files", *listed, "", verdict(solution)]))
    if solution.failed:
        print(f"flowsim: warning: {solution.message}", file=sys.stderr)


@contextlib.contextmanager
def _output_folder(config: RunConfig) -> Iterator[Path]:
    """Give the folder of the results, made and tried *before* the run; remove it if left empty.

    Without `output` it is a new one, so that a run never replaces the results of another.
    """
    folder = config.run.output or _new_folder(config.label)
    made = [path for path in (folder, folder.parent) if not path.exists()]
    _make_folder(folder)
    try:
        yield folder
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # not empty: as it should be
                path.rmdir()


def _new_folder(label: str) -> Path:
    number, folder = 1, RUNS / label
    while folder.exists():
        number += 1
        folder = RUNS / f"{label}-{number}"
    return folder


def _make_folder(folder: Path) -> None:
    """Make a folder and see whether files can be written there."""
    probe = folder / f".flowsim.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = "a file of that name is in the way" if isinstance(error, FileExistsError) else ""
        raise CommandError(
            f"The output folder {folder} cannot be written: "
            f"{reason or (error.strerror or str(error)).lower()}."
        ) from None


def _with_toml(config: RunConfig, arguments: list[str]) -> RunConfig:
    """Return the options again, those of a TOML file below those of the command line."""
    from flowsim.config import RunConfig, read_toml

    path = Path(config.source)
    if path.suffix.lower() != ".toml":
        return config
    from_file = read_toml(path)
    merged = _parse(RunConfig, arguments, default=from_file)
    assert merged is not None  # these arguments have been parsed before
    return replace(merged, source=from_file.source)


def _parse(kind: Any, arguments: list[str], default: Any = None) -> Any:
    """Parse arguments with tyro; None if it has printed help, CommandError if they are wrong."""
    import tyro

    caught = io.StringIO()
    try:
        with contextlib.redirect_stderr(caught):
            if isinstance(kind, dict):
                return tyro.extras.subcommand_cli_from_dict(
                    kind, prog="flowsim", description=DESCRIPTION, args=arguments
                )
            return tyro.cli(kind, prog="flowsim run", args=arguments, default=default)
    except SystemExit as stop:
        if not stop.code:
            return None
        raise CommandError(_first_message(caught.getvalue(), arguments)) from None


def _first_message(box: str, arguments: list[str]) -> str:
    """Return the first message of tyro's framed error texts as one sentence."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    # The title, perhaps a rule, the message, a rule, help; framed on terminals that can.
    lines = [line.strip(" │|╭╮╰╯+") for line in plain.splitlines()]
    lines = [line for line in lines if line][1:]
    is_rule = [not set(line) - set("─-") for line in lines]
    start = 1 if is_rule[:1] == [True] else 0
    end = is_rule.index(True, start) if True in is_rule[start:] else len(lines)
    message = " ".join(lines[start:end]).rstrip(".") or "The arguments are wrong"
    for pattern, words in _REWORDED:
        message = re.sub(pattern, words, message)
    command = "flowsim run --help" if arguments[:1] == ["run"] else "flowsim --help"
    return f"{message}; see {command}."


#: Messages of tyro, some of them Python's, and ours.
_REWORDED = (
    (r"Error parsing (\S+): .*invalid literal for int\(\) with base 10: (.*)",
     r"Option \1 must be a whole number, but is \2"),
    (r"Error parsing (\S+): .*could not convert string to float: (.*)",
     r"Option \1 must be a number, but is \2"),
    (r"invalid choice (.+) for argument '(\S+)'\. Expected one of \((.*)\)",
     r"Option \2 must be one of \3, but is \1"),
    (r"Missing value for argument '(\S+)'.*", r"Option \1 must have a value, but has none"),
    (r"Missing from (.*): (\S+) .*", r"Command \1 must be given \2, but is not"),
    (r"Unrecognized options: (.*)", r"Options must be known, but these are not: \1"),
)  # fmt: skip


def _sentence(error: Exception) -> str:
    """Return one line for any error; what no one foresaw is called a defect."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return "The run needs more memory than there is; take fewer neurons or samples."
    if isinstance(error, OSError) and error.filename is not None:
        return f"File {error.filename} cannot be used: {(error.strerror or text).lower()}."
    if isinstance(error, CommandError | ValueError | TypeError | OSError) and text:
        return text
    return (
        f"This is a defect of flowsim ({type(error).__name__}: {text}); "
        f"please report it with what {TRACEBACK}=1 shows."
    )


if __name__ == "__main__":
    sys.exit(main())
