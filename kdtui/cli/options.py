"""Options that several commands share, and what the shell offers for them."""

from __future__ import annotations

import os
import re
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from kdtui.errors import UsageError

if TYPE_CHECKING:
    from kdtui.store.store import RunStore

RunsDir = Annotated[
    Path | None,
    typer.Option("--runs-dir", envvar="KDTUI_RUNS", help="Folder of the runs; default ./runs.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON with stable keys.")]


_ID = re.compile(r"\d{8}-\d{6}-(?P<name>.+?)(-\d+)?")
_GIVEN_TWICE = {
    "--seed": "one run has one seed: repeat the command with each --seed",
    "--filter": "one --filter takes all terms, as in 'T>=4 miou>.65'",
}


class Command(TyperCommand):
    """A command that refuses an option given twice: click would keep the last value and drop the others silently."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line.

        Raises:
            UsageError: An option that takes one value is given more than once.
        """
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            counts = Counter(param for param in order if _takes_one_value(param))
            for param, count in counts.items():
                if count > 1:
                    name = next((flag for flag in param.opts if flag.startswith("--")), param.opts[0])
                    raise UsageError(
                        f"{name} is given {count} times and takes one value",
                        found=" ".join(args),
                        hint=_GIVEN_TWICE.get(name, f"give {name} once"),
                    )
        return super().parse_args(ctx, args)


def _takes_one_value(param: Any) -> bool:
    return param.param_type_name == "option" and not (param.multiple or param.is_flag or param.count)


def _each_key_once(sets: list[str] | None) -> list[str] | None:
    """Refuse ``--set`` with the same key twice.

    Raises:
        UsageError: Two of them set one key.
    """
    values: dict[str, list[str]] = {}
    for text in sets or []:
        key, _, value = text.partition("=")
        values.setdefault(".".join(part.strip() for part in key.split(".")), []).append(value)
    for key, given in values.items():
        if len(given) > 1:
            raise UsageError(f"--set gives {key} {len(given)} values", found=", ".join(given), hint="keep one of them")
    return sets


Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any profile key, as in training.epochs=5.", callback=_each_key_once
    ),
]


MovedSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Where the run's files are now, as in data.root=FOLDER; the run keeps it.",
        callback=_each_key_once,
    ),
]


Wide = Annotated[
    bool, typer.Option("--wide", help="Every column, however wide the terminal is; a pipe always gets them.")
]


_Form = TypeVar("_Form", bound=StrEnum)


def one_form(chosen: _Form | None, flag: _Form | None, usual: _Form) -> _Form:
    """The format that ``--format`` and a flag of its own, as ``--json``, mean together.

    Raises:
        UsageError: They mean two.
    """
    if chosen is not None and flag is not None and chosen is not flag:
        raise UsageError(f"--format {chosen} and --{flag} exclude each other", hint="keep one of them")
    return chosen or flag or usual


def open_store(runs_dir: Path | None) -> RunStore:
    """The run store, looking at real processes."""
    from kdtui.launch.alive import probe
    from kdtui.launch.device_queue import places
    from kdtui.store.store import RunStore

    return RunStore(runs_dir, alive=probe, places=places)


def complete_run(incomplete: str) -> list[str]:
    """``latest``, names and ids of runs that begin like this, newest first; the folders alone are read."""
    from kdtui.errors import StoreError
    from kdtui.store.files import printable
    from kdtui.store.store import RunStore

    try:
        ids = [printable(run.id) for run in RunStore(os.environ.get("KDTUI_RUNS")).runs()]
    except StoreError:  # Tab has no place to tell it; the command itself will
        ids = []
    ids.reverse()
    names = dict.fromkeys(_name_in(run_id) for run_id in ids)
    return [word for word in dict.fromkeys(["latest", *names, *ids]) if word and word.startswith(incomplete)]


def _name_in(run_id: str) -> str:
    """The name in an id, without the counter of runs made in one second, which a name may end in too."""
    match = _ID.fullmatch(run_id)
    return "" if match is None else match["name"]


def complete_profile(incomplete: str) -> list[str]:
    """Profile names that begin like this."""
    from kdtui.profile.find import names

    return [name for name in names() if name.startswith(incomplete)]


def complete_encoder(incomplete: str) -> list[str]:
    """Encoders of the catalog that begin like this."""
    from kdtui.catalog import encoders

    return [encoder.name for encoder in encoders() if encoder.name.startswith(incomplete)]


Filter = Annotated[
    str,
    typer.Option("--filter", metavar="EXPR", help="Runs that match, as in 'student:b0 T>=4'.", show_default=False),
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
        metavar="RUN", help="Exact ids, 'latest', exact names, or unique id prefixes.", autocompletion=complete_run
    ),
]
ChosenRuns = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]",
        help="Ids, 'latest', names (all runs of a name), or unique id prefixes; none with --filter.",
        autocompletion=complete_run,
    ),
]
