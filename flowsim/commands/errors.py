"""Errors as one sentence for the user of a command."""

from __future__ import annotations

#: Set this in the environment to see where an error comes from.
TRACEBACK = "FLOWSIM_TRACEBACK"


class CommandError(Exception):
    """An error in what was typed; its text is one sentence for the user."""


def sentence(error: Exception) -> str:
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
