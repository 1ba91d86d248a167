"""``init``: profiles for a folder of images and labels."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdtui.cli.console import Exit, RunsDir, complete_run, fields, open_store, out, say
from kdtui.cli.data import checked, show_report
from kdtui.errors import DataError, UsageError
from kdtui.text import clean, counted

if TYPE_CHECKING:
    from kdtui.launch.new_profiles import FolderGuess

_FOLDER = Path("profiles")


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
    from kdtui.launch.teachers import find_teacher
    from kdtui.profile import load
    from kdtui.store.files import check_name

    if not folder.is_dir():
        raise UsageError("there is no such folder", where="FOLDER", found=folder)
    if not yes and not sys.stdin.isatty():
        raise UsageError("cannot ask: stdin is not a terminal", hint="`kdtui init FOLDER --yes` takes the best guess")
    store = open_store(runs_dir)
    chosen = check_name(name or new_profiles.profile_name(folder))
    checkpoint = None if teacher is None else find_teacher(teacher, store).checkpoint
    files = _files(chosen, yes=yes, teacher=checkpoint is not None)
    say("  looking at the folder")
    guess = _choose(new_profiles.look(folder), ask=not yes)
    if checkpoint is not None:
        guess = new_profiles.check_teacher(checkpoint, guess)
    if not yes and not guess.named:
        guess = _name_classes(guess)
    on = new_profiles.machine()
    _show(guess, new_profiles.input_size(guess.size, on), on)
    texts = new_profiles.profile_texts(chosen, _written(folder), guess, teacher=checkpoint, on=on)
    _write(files, texts)
    profiles = {stem: load(files[stem]) for stem in texts}
    out(f"written: {', '.join(str(files[stem]) for stem in texts)}", prose=True)
    out()
    report = checked(profiles[f"{chosen}-baseline"], store.root)
    show_report(report)
    out()
    out("next:" if report["ok"] else "correct the data, then:")
    for command in new_profiles.commands(chosen, teacher=checkpoint):
        out(f"  {command}")
    if not report["ok"]:
        raise typer.Exit(Exit(DataError.exit_code))


def _files(name: str, *, yes: bool, teacher: bool) -> dict[str, Path]:
    """The profile files by name; existing ones are replaced only if the user agrees."""
    from kdtui.launch.new_profiles import ROLES

    stems = [f"{name}-{role}" for role in ROLES if not (teacher and role == "teacher")]
    files = {stem: _FOLDER / f"{stem}.toml" for stem in stems}
    existing = [str(file) for file in files.values() if file.exists()]
    if existing and (yes or not typer.confirm(f"Replace {', '.join(existing)}?", default=False, err=True)):
        raise UsageError(
            "these profiles exist", found=", ".join(existing), hint="`kdtui init FOLDER --prefix NAME` makes others"
        )
    return files


def _choose(guesses: Sequence[FolderGuess], *, ask: bool) -> FolderGuess:
    """The best guess, or the one that the user chooses among several."""
    if len(guesses) < 2 or not ask:
        return guesses[0]
    for number, guess in enumerate(guesses, 1):
        say(f"  {number}: {guess.ground.get('layout', '')}: {guess.ground.get('labels', '')}")
    number = int(typer.prompt("Which layout", default=1, type=int, err=True))
    if not 1 <= number <= len(guesses):
        raise UsageError("there is no such layout", found=number, allowed=f"1 to {len(guesses)}")
    return guesses[number - 1]


def _name_classes(guess: FolderGuess) -> FolderGuess:
    """The guess with the names that the user enters."""
    say(f"  {guess.ground.get('labels', '')}")
    text: str = typer.prompt("Class names, separated by commas", default=", ".join(guess.names), err=True)
    return guess.with_names([part.strip() for part in text.split(",") if part.strip()]).without_void()


def _written(folder: Path) -> Path:
    """The folder as profiles contain it: relative to the working folder if it is below."""
    path = folder.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) and path != Path.cwd() else path


def _show(guess: FolderGuess, size: tuple[int, int], on: str) -> None:
    counts = ", ".join(f"{count} {split}" for split, count in guess.counts.items())
    names = ", ".join(guess.names[:8]) + (", …" if len(guess.names) > 8 else "")
    rows = [
        *guess.ground.items(),
        ("pairs", counts or "none without a mistake"),
        ("classes", f"{len(guess.names)}: {clean(names)}"),
        ("images", f"{guess.size[0]}x{guess.size[1]} (median), {counted(guess.channels, 'channel')}"),
        ("input", f"{size[0]}x{size[1]}, for a training on {on}"),
    ]
    fields(rows)


def _write(files: Mapping[str, Path], texts: Mapping[str, str]) -> None:
    from kdtui.errors import StoreError

    try:
        _FOLDER.mkdir(exist_ok=True)
        for stem, text in texts.items():
            files[stem].write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            "the profiles cannot be written",
            where=error.filename,
            found=error.strerror,
            hint="start the command in a folder where you may write",
        ) from error
