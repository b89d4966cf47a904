"""Print derivations, or check that the stored texts are what they give today.

python -m derivations                    list them
python -m derivations crossing_times     print one
python -m derivations --check            derive all again; fail on any difference
python -m derivations --write            derive all again and store the texts
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from derivations import NAMES
from derivations._derivation import printed

STORED = Path(__file__).parent / "printed"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 if a derivation differs or fails."""
    parser = argparse.ArgumentParser(prog="python -m derivations", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="compare with the stored texts")
    action.add_argument("--write", action="store_true", help="store the texts")
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"argument NAME must be one of {', '.join(NAMES)}, but is {unknown[0]}")
    names = options.names or list(NAMES)
    if options.check:
        return max(check(name) for name in names)
    if options.write:
        for name in names:
            write(name)
        return 0
    if options.names:
        print("\n\n".join(derived(name) for name in names), end="")
    else:
        for name in names:
            print(f"{name:<28} {importlib.import_module(f'derivations.{name}').CLAIM}")
    return 0


def derived(name: str) -> str:
    """Derive one claim again and return its text; DerivationError if a step does not hold."""
    return printed(importlib.import_module(f"derivations.{name}"))


def check(name: str) -> int:
    """Derive one claim again and compare; print what differs; 0 if nothing does."""
    path = STORED / f"{name}.txt"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    now = derived(name)
    names = (f"{path.name} (stored)", "derived now")
    lines = list(difflib.unified_diff(before.splitlines(), now.splitlines(), *names, lineterm=""))
    print("\n".join([f"{name:<28} {'differs' if lines else 'holds'}", *lines]))
    return int(bool(lines))


def write(name: str) -> None:
    """Store the text of one derivation, whole or not at all."""
    text = derived(name)
    STORED.mkdir(exist_ok=True)
    temporary = STORED / f".{name}.part"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(STORED / f"{name}.txt")


if __name__ == "__main__":
    sys.exit(main())
