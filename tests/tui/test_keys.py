from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest
from textual.binding import Binding
from textual.keys import Keys
from textual.screen import Screen
from typer.testing import CliRunner

from kdtui.cli.app import app as command_line
from kdtui.plugins import imported
from kdtui.tui.app import KdtuiApp
from kdtui.tui.keys import KEYS, PAGES, SCOPES, PageEntry, as_json, bar, bindings, keys_of
from kdtui.tui.screens.base import CockpitScreen
from kdtui.tui.screens.compare.pages import ComparePage
from kdtui.tui.screens.run.page import RunPage


def screens() -> Iterator[type[CockpitScreen]]:
    """Every screen that has keys of the table."""
    from kdtui.tui.screens.compare import CompareScreen
    from kdtui.tui.screens.export import ExportScreen
    from kdtui.tui.screens.new_profiles import NewProfilesScreen
    from kdtui.tui.screens.new_run import NewRunScreen
    from kdtui.tui.screens.new_search import NewSearchScreen
    from kdtui.tui.screens.run import RunScreen
    from kdtui.tui.screens.runs import RunsScreen
    from kdtui.tui.screens.searches import SearchesScreen
    from kdtui.tui.screens.sweeps import SweepsScreen

    yield from (RunsScreen, RunScreen, NewRunScreen, CompareScreen, ExportScreen, NewProfilesScreen)
    yield from (SweepsScreen, SearchesScreen, NewSearchScreen)


def method(action: str) -> str:
    return f"action_{action.removeprefix('app.').partition('(')[0]}"


@pytest.mark.parametrize("screen", screens(), ids=lambda screen: screen.__name__)
def test_every_key_of_a_screen_has_exactly_one_action(screen: type[CockpitScreen]) -> None:
    assert screen.SCOPES
    for key in keys_of(*screen.SCOPES):
        assert bool(key.action) is bool(key.keys)  # what the chart does when it has the focus is only told
        pages = [imported(page.implementation) for scope in screen.SCOPES for page in PAGES.get(scope, ())]
        owners = [KdtuiApp] if key.action.startswith("app.") else [screen, *pages]
        assert not key.action or any(hasattr(owner, method(key.action)) for owner in owners), key
    pressed = Counter(name for key in keys_of(*screen.SCOPES, "app") if key.keys for name in key.keys.split(","))
    assert not [name for name, count in pressed.items() if count > 1]


def test_every_scope_belongs_to_a_screen() -> None:
    used = {scope for screen in screens() for scope in screen.SCOPES}
    assert used | {"app"} == set(SCOPES) == {key.scope for key in KEYS}
    for key in keys_of("app"):
        assert hasattr(KdtuiApp, method(key.action)), key


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.scope}-{key.keys}")
def test_keys_use_the_notation_of_textual_and_have_a_sentence_as_help(key: object) -> None:
    from kdtui.tui.keys import Key

    assert isinstance(key, Key)
    known = {known.value for known in Keys} | {name.lower() for name in Keys.__members__}
    for name in filter(None, key.keys.split(",")):
        bare = name.rpartition("+")[2] if "+" in name else name
        assert len(bare) == 1 or bare in known or name in known or bare.replace("_", "").isalpha(), name
    assert key.help[0].isupper() or key.help[0] in "1234567890`"
    assert key.help.endswith(".") and len(key.help) <= 88
    assert len(key.shown) <= 5 and len(key.label) <= 8
    if key.command:
        assert key.command.startswith("kdtui ")


def test_the_command_lines_that_are_named_exist() -> None:
    registered = command_line.registered_commands
    known = {command.name or getattr(command.callback, "__name__", "") for command in registered}
    named = {key.command.split()[1] for key in KEYS if key.command}
    assert named <= known


def test_bindings_and_key_bar_come_from_the_table() -> None:
    made = [binding for binding in bindings("chart") if isinstance(binding, Binding)]
    assert [binding.action for binding in made] == [key.action for key in keys_of("chart") if key.keys]
    assert all(not binding.show for binding in made)  # Textual's footer is not used
    scopes = [key.scope for key in bar(("runs", "chart"))]
    assert scopes == sorted(scopes, reverse=True)  # the screen's own first
    assert set(scopes) == {"runs", "chart"}
    assert all(key.label for key in bar(SCOPES))
    with pytest.raises(KeyError):
        keys_of("kitchen")
    assert issubclass(CockpitScreen, Screen)


def test_the_table_is_printed_as_text_and_as_json() -> None:
    told = CliRunner().invoke(command_line, ["keys", "--json"])
    assert told.exit_code == 0
    rows = json.loads(told.stdout)
    assert rows == as_json() and len(rows) == len(KEYS)
    assert all(set(row) == {"screen", "key", "action", "help", "command"} for row in rows)
    printed = CliRunner().invoke(command_line, ["keys"], env={"COLUMNS": "200"})
    assert printed.exit_code == 0
    for key in KEYS:
        assert key.help in printed.stdout


@pytest.mark.parametrize(
    ("scope", "page"),
    [(scope, page) for scope, pages in PAGES.items() for page in pages],
    ids=lambda it: getattr(it, "name", it),
)
def test_a_page_is_one_class_and_its_actions_have_keys(scope: str, page: PageEntry) -> None:
    kind = imported(page.implementation)
    assert issubclass(kind, RunPage if scope == "run" else ComparePage)
    keyed = {key.action for key in keys_of(scope)}
    actions = kind.ACTIONS if scope == "run" else ()
    assert {f"page('{page.name}')", *actions} <= keyed
    assert all(hasattr(kind, f"action_{name}") for name in actions)
