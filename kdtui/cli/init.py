"""``init``: profiles for a folder of images and labels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdtui.cli.console import Exit, RunsDir, complete_run, fields, open_store, out, say
from kdtui.cli.data import checked, show_report
from kdtui.errors import DataError, UsageError

if TYPE_CHECKING:
    from kdtui.launch.new_profiles import FolderGuess


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(init)


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the data: images and their labels.")],
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            metavar="CKPT|RUN",
            help="Teacher, a checkpoint or a run; no profile of one is written then.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--prefix", help="First part of the profiles' names; default: that of the folder.", show_default=False
        ),
    ] = None,
    layout: Annotated[
        int | None,
        typer.Option(
            "--layout", metavar="NUMBER", help="Layout, where several are possible: 1 is the best.", show_default=False
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="NAME,…",
            help="Class names in order; of their values, where no file has them.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", "-y", help="Do not ask for confirmation; uses the best guess, and names such as 'class 1'."
        ),
    ] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Write profiles for your own data: guess layout and labels, check every file, say what to run next."""
    from kdtui.launch import new_profiles
    from kdtui.launch.engine_process import ask
    from kdtui.launch.teachers import find_teacher
    from kdtui.profile import load

    if not folder.is_dir():
        raise UsageError("there is no such folder", where="FOLDER", found=folder)
    if not yes and not sys.stdin.isatty():
        raise UsageError("cannot ask: stdin is not a terminal", hint="`kdtui init FOLDER --yes` takes the best guess")
    store = open_store(runs_dir)
    chosen = new_profiles.check_prefix(name or new_profiles.profile_name(folder))
    checkpoint = None if teacher is None else find_teacher(teacher, store).checkpoint
    _ask_to_replace(chosen, yes=yes, teacher=checkpoint is not None)
    say("  looking at the folder")
    guess = _choose(new_profiles.look(folder), layout, ask=not yes)
    if checkpoint is not None:
        guess = new_profiles.with_teacher(guess, checkpoint, ask("inspect", str(checkpoint)))
    guess = _name_classes(guess, classes, ask=not yes)
    on = new_profiles.machine()
    fields(new_profiles.facts(guess, on))
    files = new_profiles.write_profiles(chosen, folder, guess, teacher=checkpoint, on=on)
    profiles = {stem: load(file) for stem, file in files.items()}
    out(f"written: {', '.join(map(str, files.values()))}", prose=True)
    out()
    report = checked(profiles[f"{chosen}-baseline"], store.root)
    show_report(report)
    out()
    out("next:" if report["ok"] else "correct the data, then:")
    for command in new_profiles.commands(chosen, teacher=checkpoint):
        out(f"  {command}")
    if not report["ok"]:
        raise typer.Exit(Exit(DataError.exit_code))


def _ask_to_replace(name: str, *, yes: bool, teacher: bool) -> None:
    """Existing profiles are replaced only if the user agrees."""
    from kdtui.launch.new_profiles import profile_files

    existing = [str(file) for file in profile_files(name, teacher=teacher).values() if file.exists()]
    if existing and (yes or not typer.confirm(f"Replace {', '.join(existing)}?", default=False, err=True)):
        raise UsageError(
            "these profiles exist", found=", ".join(existing), hint="`kdtui init FOLDER --prefix NAME` makes others"
        )


def _choose(guesses: Sequence[FolderGuess], number: int | None, *, ask: bool) -> FolderGuess:
    """The guess with that number; without one the best guess, or the one that the user chooses among several."""
    from kdtui.launch.new_profiles import chosen

    if number is None and ask and len(guesses) > 1:
        for place, guess in enumerate(guesses, 1):
            say(f"  {place}: {guess.words}")
        number = int(typer.prompt("Which layout", default=1, type=int, err=True))
    return chosen(guesses, 1 if number is None else number)


def _name_classes(guess: FolderGuess, names: str | None, *, ask: bool) -> FolderGuess:
    """The guess with these names of classes; without them and without names in a file, those that the user enters."""
    from kdtui.launch.new_profiles import named

    if guess.named and names is not None:
        raise UsageError(
            "the classes have names already", where="--classes", found=", ".join(guess.names), hint="omit --classes"
        )
    if names is None and ask and not guess.named:
        say(f"  {guess.ground.get('labels', '')}")
        names = typer.prompt("Class names, separated by commas", default=", ".join(guess.names), err=True)
    return guess if names is None else named(guess, names)
