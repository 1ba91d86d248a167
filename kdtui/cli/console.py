"""Streams, exit codes, tables and the options that several commands share: data on stdout, messages on stderr."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from kdtui.cli.layout import lay_out, paragraph, words
from kdtui.errors import KdtuiError, UsageError, hint_for_profiles
from kdtui.profile.settings import each_key_once
from kdtui.text import clean, jsonable, one_line, width

if TYPE_CHECKING:
    from kdtui.store.store import RunStore


_STATE_COLOURS = {"▶": "36", "✓": "32", "✗": "31", "■": "33", "…": "34", "?": "35"}

_running: ContextVar[frozenset[str]] = ContextVar("options of the command that runs", default=frozenset())


class Exit(IntEnum):
    """Exit codes of the commands."""

    OK = 0
    USAGE = 2
    LAUNCH = 3
    ENGINE = 4
    INTERRUPTED = 130


def open_streams() -> None:
    """Make the standard streams usable: replace closed ones by the null device and unencodable characters by `?`.

    A shell's ``>&-`` leaves Python without a stream, and a C locale without UTF-8 cannot encode the symbols of tables.
    """
    # In the order of the descriptors: open() takes the lowest free one, so that no other file becomes "stdout".
    nothing = Path(os.devnull)
    sys.stdin = sys.stdin or nothing.open(encoding="utf-8")
    sys.stdout = sys.stdout or nothing.open("w", encoding="utf-8")
    sys.stderr = sys.stderr or nothing.open("w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def columns(stream: Any) -> int | None:
    """Width of the terminal of a stream in columns; None for a file or pipe, whose lines are not wrapped."""
    return max(20, shutil.get_terminal_size().columns) if stream.isatty() else None


def out(text: object = "", *, prose: bool = False) -> None:
    """Print a line of data to stdout and flush, so that the reader of a pipe gets it at once.

    Args:
        text: The text.
        prose: Whether it may be wrapped on a terminal.
    """
    print(_fitted(clean(text), sys.stdout) if prose else clean(text), flush=True)


def say(text: object = "") -> None:
    """Print a message to stderr, wrapped on a terminal."""
    print(_fitted(clean(text), sys.stderr), file=sys.stderr, flush=True)


def _fitted(text: str, stream: Any) -> str:
    room = columns(stream)
    return text if room is None else paragraph(text, room)


def emit(value: Any) -> None:
    """Print JSON to stdout in ASCII, so that control characters in names are escaped without loss."""
    print(json.dumps(jsonable(value), indent=2, default=str, allow_nan=False))


def report(error: KdtuiError) -> None:
    """Print an error to stderr: what, where, found, allowed, and the next step."""
    text = _fitted(clean(f"error: {error.message}"), sys.stderr)
    if _colours(sys.stderr):
        text = f"\x1b[31merror\x1b[0m{text.removeprefix('error')}"
    print(text, file=sys.stderr, flush=True)
    if error.hint:
        say(f"  next: {next_step(error.hint)}")


def next_step(hint: str) -> str:
    """Adapt a hint to the options of the running command."""
    return hint if "--set" in _running.get() else hint_for_profiles(hint)


def running(options: Iterable[str]) -> None:
    """Set the options of the running command, for :func:`next_step`."""
    _running.set(frozenset(options))


def _colours(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def fields(pairs: Sequence[tuple[str, object]], *, indent: int = 0) -> None:
    """Print labels and texts to stdout in two columns; on a terminal the texts are wrapped within their column."""
    widest = max((width(clean(label)) for label, _ in pairs), default=0)
    start, room = indent + widest + 2, columns(sys.stdout)
    for label, text in pairs:
        first = f"{' ' * indent}{clean(label)}".ljust(start)
        for line in clean(text).split("\n"):
            for piece in [line] if room is None else words(line, max(20, room - start)):
                print(f"{first}{piece}".rstrip())
                first = " " * start
    sys.stdout.flush()


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: frozenset[str] = frozenset(),
    dim: frozenset[int] = frozenset(),
    wrap: Collection[str] = (),
    drop: Sequence[str] = (),
    below: bool = False,
    wide: bool = False,
) -> None:
    """Print aligned columns to stdout that fit its terminal, see :func:`kdtui.cli.layout.lay_out`.

    Not rich's table, which takes half a second for a list of a thousand runs. A pipe gets every column, with each row
    on one line.

    Args:
        header: Headings.
        rows: Cells.
        right: Headings of right-aligned columns.
        dim: Indices of dimmed rows.
        wrap: Headings of columns that may be wrapped.
        drop: Headings of columns that may be left out in a narrow terminal, in this order.
        below: Whether the last column may be placed below its row.
        wide: Print every column with each row on one line on a terminal too.
    """
    lines = [[" ".join(clean(cell).replace("\t", " ").split("\n")) for cell in row] for row in [header, *rows]]
    room = None if wide else columns(sys.stdout)
    layout = lay_out(lines[0], lines[1:], room=room, right=right, wrap=wrap, drop=drop, below=below)
    colours = _colours(sys.stdout)
    last = None
    for row, text in layout.lines:
        if colours and row < 0:
            text = f"\x1b[1m{text}\x1b[0m"
        elif colours and row in dim:
            text = f"\x1b[2m{text}\x1b[0m"
        elif colours and row != last and text[:1] in _STATE_COLOURS:
            text = f"\x1b[{_STATE_COLOURS[text[0]]}m{text[0]}\x1b[0m{text[1:]}"
        print(text)
        last = row
    if layout.left_out:
        say(f"columns left out: {', '.join(layout.left_out)}; --wide shows them")


RunsDir = Annotated[
    Path | None,
    typer.Option("--runs-dir", envvar="KDTUI_RUNS", help="The run store; default ./runs.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON with stable keys.")]


_ID = re.compile(r"\d{8}-\d{6}-(?P<name>.+?)(-\d+)?")
_GIVEN_TWICE = {
    "--seed": "a run has one seed; `kdtui train PROFILE --seeds 0,1,2` trains with several",
    "--filter": "give all terms to one --filter, as in 'T>=4 miou>.65'",
}


FORMER_NAMES: Mapping[str, Mapping[str, str]] = {
    "train": {"--teacher-checkpoint": "--teacher", "--student-encoder": "--student"},
    "distill": {"--teacher-checkpoint": "--teacher"},
    "compare": {"--output": "--to"},
    "inspect": {"--output": "--logits"},
    "measure": {"--size": "--image-size"},
}
"""Former names of options by command, which work in this version only, and their present names."""


class Command(TyperCommand):
    """A command that rejects repeated options, of which click would keep the last value, and takes former names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line.

        Raises:
            UsageError: An option with one value is repeated.
        """
        args = with_present_names(args, FORMER_NAMES.get(str(self.name), {}), quiet=ctx.resilient_parsing)
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            counts = Counter(param for param in order if _takes_one_value(param))
            for param, count in counts.items():
                if count > 1:
                    name = next((flag for flag in param.opts if flag.startswith("--")), param.opts[0])
                    raise UsageError(
                        f"{name} takes one value but is given {count} times",
                        found=" ".join(args),
                        hint=_GIVEN_TWICE.get(name, f"give {name} once"),
                    )
        return super().parse_args(ctx, args)


def with_present_names(args: Sequence[str], names: Mapping[str, str], *, quiet: bool = False) -> list[str]:
    """Replace former names of options; a message on stderr gives the present name.

    Args:
        args: The words of the command line.
        names: Former names and their present ones.
        quiet: Print no message.
    """
    end = list(args).index("--") if "--" in args else len(args)
    present, former = [], {}
    for arg in args[:end]:
        flag, equals, value = arg.partition("=")
        if flag in names:
            former[flag] = names[flag]
        present.append(f"{names.get(flag, flag)}{equals}{value}")
    for flag, name in () if quiet else former.items():
        say(f"{flag} is called {name} now; the next version will not accept {flag}")
    return [*present, *args[end:]]


def _takes_one_value(param: Any) -> bool:
    return param.param_type_name == "option" and not (param.multiple or param.is_flag or param.count)


Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Profile key; any, as in training.epochs=5.", callback=each_key_once
    ),
]


MovedSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Profile key; new location of the run's files, as in data.root=FOLDER; kept in the run.",
        callback=each_key_once,
    ),
]


Wide = Annotated[
    bool, typer.Option("--wide", help="Print every column, also in a narrow terminal; pipes always get them all.")
]


_Form = TypeVar("_Form", bound=StrEnum)


def one_form(chosen: _Form | None, flag: _Form | None, usual: _Form) -> _Form:
    """The format chosen by ``--format`` or by a flag such as ``--json``.

    Raises:
        UsageError: They contradict each other.
    """
    if chosen is not None and flag is not None and chosen is not flag:
        raise UsageError(f"--format {chosen} and --{flag} exclude each other", hint="keep one of them")
    return chosen or flag or usual


def open_store(runs_dir: Path | None) -> RunStore:
    """The run store, with the liveness of processes and the device queue."""
    from kdtui.launch import targets

    return targets.open_store(runs_dir)


def complete_run(incomplete: str) -> list[str]:
    """Complete ``latest``, names and ids of runs, newest first; only folder names are read."""
    from kdtui.errors import StoreError
    from kdtui.store.store import RunStore

    try:
        ids = [one_line(run.id) for run in RunStore(os.environ.get("KDTUI_RUNS")).runs()]
    except StoreError:  # completion cannot report it; the command will
        ids = []
    ids.reverse()
    names = dict.fromkeys(_name_in(run_id) for run_id in ids)
    return [word for word in dict.fromkeys(["latest", *names, *ids]) if word and word.startswith(incomplete)]


def _name_in(run_id: str) -> str:
    """The name in an id, without the counter of runs created in the same second; names may end in digits too."""
    match = _ID.fullmatch(run_id)
    return "" if match is None else match["name"]


def complete_profile(incomplete: str) -> list[str]:
    """Complete profile names."""
    from kdtui.profile.find import names

    return [name for name in names() if name.startswith(incomplete)]


def complete_method(incomplete: str) -> list[str]:
    """Complete methods of distillation."""
    from kdtui.profile.methods import method_names

    return [name for name in method_names() if name.startswith(incomplete)]


def complete_encoder(incomplete: str) -> list[str]:
    """Complete encoders of the catalog."""
    from kdtui.catalog import encoders

    return [encoder.name for encoder in encoders() if encoder.name.startswith(incomplete)]


class Device(StrEnum):
    """Device of a network."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


Filter = Annotated[
    str,
    typer.Option("--filter", metavar="EXPR", help="Select matching runs, as in 'student:b0 T>=4'.", show_default=False),
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Exact id, 'latest', exact name, or a unique id prefix.", autocompletion=complete_run
    ),
]
RunNames = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...", help="Exact ids, 'latest', exact names, or unique id prefixes.", autocompletion=complete_run
    ),
]
ChosenRuns = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        help="Ids, 'latest', names and groups (all their runs), or unique id prefixes; none with --filter.",
        autocompletion=complete_run,
    ),
]
