"""The command line: the command group, its options, and the conversion of errors to messages and exit codes.

Commands have one file per group. Nothing heavier than typer is imported before a command runs, so that ``--help`` and
completion are fast.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.models import CommandInfo

import kdtui
from kdtui.cli import (
    cache,
    checkpoints,
    cockpit,
    compare,
    data,
    demo,
    export,
    gc,
    init,
    measure,
    predict,
    runs,
    search,
    sweep,
    train,
    versions,
)
from kdtui.cli.console import Command, Exit, open_streams, report, running, say
from kdtui.errors import Interrupted, KdtuiError, LaunchError
from kdtui.text import clean

# The base class of all errors of the command-line parser; typer exports it under no public name.
_ParserError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


@contextmanager
def _clean_errors() -> Iterator[None]:
    """Remove terminal control characters from the parser's messages, which quote the command line."""
    try:
        yield
    except _ParserError as error:
        error.message = clean(error.message)
        raise


class Commands(TyperGroup):
    """Command group that converts exceptions to messages on stderr and exit codes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the command."""
        with _clean_errors():
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, whose name may have two words, and record its options, to which hints are adapted."""
        if (both := " ".join(args[:2])) in self.commands and " " in both:
            args = [both, *args[2:]]
        name, command, rest = super().resolve_command(ctx, args)
        running(word for parameter in (command.params if command else ()) for word in parameter.opts)
        return name, command, rest

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the first word of commands."""
        return [item for item in super().shell_complete(ctx, incomplete) if " " not in item.value]

    def invoke(self, ctx: Any) -> Any:
        """Run the command; expected errors are reported without a traceback."""
        try:
            with _clean_errors():
                result = super().invoke(ctx)
            sys.stdout.flush()  # a closed pipe raises here, not at interpreter exit
        except KdtuiError as error:
            report(error)
            raise typer.Exit(error.exit_code) from error
        except typer.Abort as error:  # Ctrl-C or end of input at a prompt; prompts precede changes
            say("")  # the cursor is in the line of the question
            report(Interrupted("cancelled; nothing was changed"))
            raise typer.Exit(Exit.INTERRUPTED) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(Exit.INTERRUPTED) from error
        except BrokenPipeError as error:
            # `kdtui runs | head -1`: the reader has closed the pipe. Python must not write to it at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(Exit.OK) from error
        except OSError as error:
            failure = LaunchError.of(error)
            report(failure)
            raise typer.Exit(failure.exit_code) from error
        return result


app = typer.Typer(
    name="kdtui",
    cls=Commands,
    help="Knowledge distillation of segmentation models: train teachers and students, compare and export them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help costs 0.06 s, rich help 0.15 s.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"kdtui {kdtui.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Knowledge distillation of segmentation models: train teachers and students, compare and export them."""


for group in (
    cockpit,
    demo,
    init,
    data,
    train,
    sweep,
    search,
    runs,
    compare,
    checkpoints,
    predict,
    export,
    measure,
    cache,
    gc,
    versions,
):
    group.register(app)
for command in app.registered_commands:
    command.cls = Command


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``kdtui`` command."""
    open_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    _with_only([" ".join(words[:2]), *words[:1]])(args=words, prog_name="kdtui")


def _with_only(names: Sequence[str]) -> typer.Typer:
    """The app with only the named command: building the others takes longer than most commands take to run.

    Args:
        names: Possible names of it, the longest first.
    """
    commands = {command.name or _default_name(command): command for command in app.registered_commands}
    named = next((commands[name] for name in names if name in commands), None)
    if named is None:
        return app
    only = copy.copy(app)
    only.registered_commands = [named]
    return only


def _default_name(command: CommandInfo) -> str | None:
    return command.callback.__name__ if command.callback else None
