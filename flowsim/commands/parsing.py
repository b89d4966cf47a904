"""Typed arguments to the dataclasses of the commands, through tyro."""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

from flowsim.commands.errors import CommandError

DESCRIPTION = "Exact-to-tolerance gradient flow of two-layer ReLU networks."


def parse_command(kinds: dict[str, Any], arguments: list[str]) -> Any:
    """Parse a command, the first argument, with its options into the dataclass of its name.

    Returns
    -------
    object
        None if help was printed.

    Raises
    ------
    CommandError
        If the arguments are wrong.
    """
    import tyro

    return _parsed(
        arguments,
        lambda: tyro.extras.subcommand_cli_from_dict(
            kinds, prog="flowsim", description=DESCRIPTION, args=arguments
        ),
    )


def parse_again(default: Any, arguments: list[str]) -> Any:
    """Parse the options of a command that has been parsed before, with other defaults."""
    import tyro

    return _parsed(
        arguments, lambda: tyro.cli(type(default), prog="flowsim", args=arguments, default=default)
    )


def _parsed(arguments: list[str], parse: Any) -> Any:
    caught = io.StringIO()
    try:
        with contextlib.redirect_stderr(caught):
            return parse()
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
    command = arguments[0] if arguments and re.fullmatch("[a-z]+", arguments[0]) else ""
    return f"{message}; see {' '.join(['flowsim', *([command] if command else []), '--help'])}."


#: Messages of tyro, some of them Python's, and ours.
_REWORDED = (
    (r"Error parsing (\S+): .*invalid literal for int\(\) with base 10: (.*)",
     r"Option \1 must be a whole number, but is \2"),
    (r"Error parsing (\S+): .*could not convert string to float: (.*)",
     r"Option \1 must be a number, but is \2"),
    (r"invalid choice (.+) for argument '(\S+)'\. Expected one of \((.*)\)",
     r"Option \2 must be one of \3, but is \1"),
    (r"'None', |, 'None'", ""),  # what stands for no choice
    (r"Missing value for argument '(\S+)'.*", r"Option \1 must have a value, but has none"),
    (r"Missing from (.*): (\S+) .*", r"Command \1 must be given \2, but is not"),
    (r"Unrecognized options: (.*)", r"Options must be known, but these are not: \1"),
    # Those that another command knows.
    (r"Unrecognized or misplaced options: (.*?) Arguments are applied to .*",
     lambda found: "Options must be known to this command, but these are not: "
                   + re.sub(r" \(applied to [^)]*\)", "", found[1])),
)  # fmt: skip
