"""Entry point of the ``kdtui`` command: opens the cockpit without arguments, otherwise runs the command line.

The cockpit is opened without importing the command line, which would take a third of the time to its first paint.
"""

import os
import sys

from kdtui.processes import forget_working_folder


def main(arguments: list[str] | None = None) -> None:
    """Open the cockpit, or run a command."""
    # Before any other import, which could otherwise be satisfied by a file of the working folder.
    forget_working_folder()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words and _terminal():
        from kdtui.cli.opening import open_cockpit

        sys.exit(open_cockpit(None))
    from kdtui.cli.app import main as command

    command(words)


def _terminal() -> bool:
    """Whether all streams are terminals; `kdtui | cat` prints the help instead. Textual draws on stderr."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(stream is not None and stream.isatty() for stream in streams) and "_KDTUI_COMPLETE" not in os.environ
