"""The command line: ``flowsim run``, ``resume``, ``plot``, ``extremal``, ``align``, ``compare``,
``threshold``, ``certify`` and ``verify``.

Everything heavy is imported when it is needed, so that ``flowsim --help`` is instant.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowsim.commands.errors import TRACEBACK, CommandError, sentence
from flowsim.commands.folders import make_folder, output_folder
from flowsim.commands.parsing import parse_again, parse_command

if TYPE_CHECKING:
    from flowsim.config import PlotConfig, ResumeConfig, RunConfig
    from flowsim.solution import Solution

#: Exit codes: the run stopped for a reason that is a failure; the input is wrong; Ctrl-C.
FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130
COMMANDS = (
    "run", "resume", "plot", "extremal", "align", "compare", "threshold", "certify", "verify",
)  # fmt: skip
_PICTURES = ("timeline", "directions", "function")


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
    except KeyboardInterrupt as stop:
        kept = str(stop) or "the run was not saved"
        print(f"\nflowsim: interrupted; {kept}.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        print(f"flowsim: error: {sentence(error)}", file=sys.stderr)
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
    from flowsim.config import PlotConfig, ResumeConfig, RunConfig
    from flowsim.config_alignment import AlignConfig, ExtremalConfig
    from flowsim.config_certificate import CertifyConfig, VerifyConfig
    from flowsim.config_compare import CompareConfig
    from flowsim.config_threshold import ThresholdConfig

    kinds = {
        "run": RunConfig,
        "resume": ResumeConfig,
        "plot": PlotConfig,
        "extremal": ExtremalConfig,
        "align": AlignConfig,
        "compare": CompareConfig,
        "threshold": ThresholdConfig,
        "certify": CertifyConfig,
        "verify": VerifyConfig,
    }
    config = parse_command(kinds, arguments or ["--help"])
    if config is None:
        return 0
    if isinstance(config, PlotConfig):
        return plot(config)
    if isinstance(config, ResumeConfig):
        return resume(config)
    if isinstance(config, ThresholdConfig):
        from flowsim.commands.threshold import threshold

        return 0 if threshold(config, arguments[1:]) else FAILED
    if isinstance(config, CertifyConfig):
        from flowsim.commands.certificate import certify

        return 0 if certify(config) else FAILED
    if isinstance(config, VerifyConfig):
        from flowsim.commands.certificate import verify

        return 0 if verify(config) else FAILED
    config = _with_toml(config, arguments[1:])
    if isinstance(config, RunConfig):
        return run(config)
    from flowsim.commands import alignment
    from flowsim.commands.compare import compare

    commands = {
        ExtremalConfig: alignment.extremal,
        AlignConfig: alignment.align,
        CompareConfig: compare,
    }
    return 0 if commands[type(config)](config) else FAILED


def run(config: RunConfig) -> int:
    """Integrate the flow that `config` describes, save it, draw it and report it."""
    from flowsim.config_build import build_data, build_model, check_together, simulate_arguments

    check_together(config)
    data = build_data(config)
    net = build_model(config.init, data.d)
    arguments = simulate_arguments(config.run)
    with output_folder(config.run.output, config.label) as folder:
        path = folder / "run.nc"
        arguments |= _checkpoint(path, config.run.checkpoint)
        return _written(_simulate(net, data, arguments), path)


def resume(config: ResumeConfig) -> int:
    """Go on with a saved run, save it whole, draw it and report it."""
    from flowsim.resume import resume

    path = (config.output or config.path.parent) / config.path.name
    make_folder(path.parent)
    limits = {
        "t1": config.t1,
        "stationary_rtol": config.stationary_rtol,
        "end": config.end,
        "max_steps": config.max_steps,
        "max_seconds": config.max_seconds,
    }
    arguments = {**limits, **_checkpoint(path, config.checkpoint)}
    return _written(_followed(resume, (config.path,), arguments), path)


def plot(config: PlotConfig) -> int:
    """Draw the pictures of a saved run again."""
    from flowsim.files import load

    solution = load(config.path)
    folder = config.output or config.path.parent
    make_folder(folder)
    _conclude(solution, _draw(solution, folder))
    return 0


def _checkpoint(path: Path, seconds: float | None) -> dict[str, Any]:
    """Return what `simulate` is told of checkpoints."""
    return {} if seconds is None else {"checkpoint": path, "checkpoint_seconds": seconds}


def _simulate(net: Any, data: Any, arguments: dict[str, Any]) -> Solution:
    from flowsim.simulate import simulate

    return _followed(simulate, (net, data), arguments)


def _followed(
    follow: Callable[..., Solution], given: tuple[Any, ...], arguments: dict[str, Any]
) -> Solution:
    """Follow a flow to its end, with a line that shows its progress."""
    from flowsim.progress import ProgressBar

    path = arguments.get("checkpoint")
    try:
        with ProgressBar() as progress:
            return follow(*given, progress=progress, **arguments)
    except KeyboardInterrupt:
        if path is None or not path.exists():
            raise
        raise KeyboardInterrupt(f"flowsim resume {path} goes on from its checkpoint") from None


def _written(solution: Solution, path: Path) -> int:
    """Save a run, draw it and report it; return the exit code."""
    written: list[str] = []
    try:  # save before anything else can fail, and report whatever else fails
        solution.save(path)
        written.append(str(path))
        written += _draw(solution, path.parent)
        if (proof := path.with_name("certificate.json")).exists():
            written.append(f"{proof} (of an earlier run: flowsim certify {path} replaces it)")
    finally:
        print(solution.summary())
        _conclude(solution, written)
    return FAILED if solution.failed else 0


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


def _with_toml(config: Any, arguments: list[str]) -> Any:
    """Return the options again, those of a TOML file below those of the command line."""
    from dataclasses import replace

    from flowsim.config import RunConfig, read_toml

    path = Path(config.source)
    if path.suffix.lower() != ".toml":
        return config
    from_file: Any = read_toml(path)
    if not isinstance(config, RunConfig):
        from_file = type(config).of_run(from_file)
    merged = parse_again(from_file, arguments)
    assert merged is not None  # these arguments have been parsed before
    return replace(merged, source=from_file.source)


if __name__ == "__main__":
    sys.exit(main())
