"""The key table, the source of bindings, key bar, help screen, documentation and ``kdtui keys --json``.

It does not import Textual, so that the command line can print it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.binding import BindingType


@dataclass(frozen=True)
class Key:
    """One key on one screen.

    Attributes:
        scope: Where the key works, one of :data:`SCOPES`.
        keys: In Textual's notation, alternatives separated by commas; empty for keys bound by a widget.
        shown: As displayed to the user.
        action: The action that it runs.
        label: Text in the key bar; empty for keys listed only on the help screen.
        help: What it does, in one sentence.
        command: The equivalent command line; RUN stands for the run under the cursor.
        palette: Whether the command palette lists it; not for navigation.
        words: Other search terms for the command palette.
    """

    scope: str
    keys: str
    shown: str
    action: str
    label: str
    help: str
    command: str = ""
    palette: bool = True
    words: str = ""


@dataclass(frozen=True)
class PageEntry:
    """One page of a screen; its number, and thereby its key, is its position in :data:`PAGES`.

    Attributes:
        name: Its tab.
        help: What it displays.
        implementation: ``package.module:class`` of the page.
        command: The equivalent command line.
        words: Other search terms for the command palette.
    """

    name: str
    help: str
    implementation: str
    command: str = ""
    words: str = ""


_RUN = "kdtui.tui.screens.run"
_COMPARE = "kdtui.tui.screens.compare"
PAGES: Mapping[str, tuple[PageEntry, ...]] = {
    "run": (
        PageEntry("curves", "curves of losses and mIoU.", f"{_RUN}.curves:Curves"),
        PageEntry("numbers", "losses, speed, scores, compression, IoU per class, remarks.", f"{_RUN}.numbers:Numbers"),
        PageEntry("predictions", "predictions of teacher and student as pictures.", f"{_RUN}.predictions:Predictions"),
        PageEntry(
            "log",
            "the live log; w shows the output of `kdtui logs --raw`.",
            f"{_RUN}.logs:Logs",
            words="logs output worker",
        ),
        PageEntry(
            "profile",
            "the profile, and its differences from another run.",
            f"{_RUN}.settings:Settings",
            words="settings configuration config",
        ),
    ),
    "compare": (
        PageEntry("curves", "curves of all runs over images seen.", f"{_COMPARE}.pages:ComparisonCurves"),
        PageEntry("numbers", "all numbers of runs and teachers.", f"{_COMPARE}.pages:ComparisonNumbers"),
        PageEntry("differs", "the settings in which the profiles differ.", f"{_COMPARE}.pages:Differences"),
        PageEntry("notes", "seeds, and reasons why a Δ may be unfair.", f"{_COMPARE}.pages:ComparisonNotes"),
        PageEntry("pareto", "mIoU against its cost.", f"{_COMPARE}.pages:ParetoPage", "kdtui compare … --pareto COST"),
        PageEntry(
            "classes",
            "which classes gained and lost, with intervals.",
            f"{_COMPARE}.pages:ComparedClasses",
            "kdtui compare … --per-class",
        ),
    ),
}
"""Pages by scope."""


def _page_keys(scope: str) -> tuple[Key, ...]:
    return tuple(
        Key(
            *(scope, str(number), str(number), f"page('{page.name}')", ""),
            f"Page {number}: {page.help}",
            page.command,
            words=page.words,
        )
        for number, page in enumerate(PAGES[scope], start=1)
    )


SCOPES = {
    "app": "Everywhere",
    "runs": "Runs",
    "chart": "Chart",
    "run": "One run",
    "new": "New run",
    "compare": "Compare",
    "export": "Export",
    "profiles": "Profiles for a folder",
    "sweeps": "Sweeps",
    "searches": "Searches",
    "search": "New search",
}

KEYS: tuple[Key, ...] = (
    # app
    Key(
        "app",
        "question_mark,f1",
        "?",
        "help",
        "help",
        "Show every key and what it does (F1 in fields).",
        "kdtui keys",
        words="keys bindings shortcuts manual",
    ),
    Key("app", "ctrl+p", "^p", "command_palette", "cmds", "Search all commands.", palette=False),
    Key(
        "app",
        "ctrl+t",
        "^t",
        "toggle_theme",
        "",
        "Switch between the dark and the light theme.",
        words="colours colors",
    ),
    Key("app", "ctrl+z", "^z", "suspend_process", "", "Suspend to the shell (fg resumes).", palette=False),
    Key("app", "ctrl+q", "^q", "quit", "", "Quit; running trainings continue.", words="quit exit close bye"),
    # runs
    Key(
        "runs",
        "enter",
        "↵",
        "open",
        "open",
        "Open the run under the cursor.",
        "kdtui watch RUN",
        words="open show watch view details",
    ),
    Key("runs", "space", "␣", "toggle_mark", "mark", "Mark the run: marked runs share the chart.", palette=False),
    Key(
        "runs",
        "c",
        "c",
        "compare",
        "compare",
        "Compare the marked runs.",
        "kdtui compare RUN…",
        words="compare diff baseline side",
    ),
    Key(
        "runs",
        "n",
        "n",
        "new_run",
        "new",
        "Set up a new run.",
        "kdtui train PROFILE",
        words="new train start launch distil distill create",
    ),
    Key(
        "runs",
        "N",
        "N",
        "clone",
        "",
        "Set up a new run like the one under the cursor.",
        words="clone duplicate copy again like",
    ),
    Key(
        "runs",
        "I",
        "I",
        "new_profiles",
        "",
        "Write profiles for a folder of your own images and labels.",
        "kdtui init FOLDER",
        words="init own data folder profiles dataset",
    ),
    Key(
        *("runs", "x", "x", "stop", "stop"),
        "Save and stop the run or the marked runs, after confirmation.",
        "kdtui stop RUN",
        words="stop cancel halt abort interrupt end pause",
    ),
    Key(
        "runs",
        "X",
        "X",
        "kill",
        "",
        "Kill the run's processes, after confirmation.",
        "kdtui stop --kill RUN",
        words="kill terminate force abort",
    ),
    Key(
        "runs",
        "R",
        "R",
        "resume",
        "resume",
        "Resume the run, optionally for more epochs.",
        "kdtui resume RUN",
        words="resume continue restart rerun go on more epochs",
    ),
    Key(
        "runs",
        "e",
        "e",
        "export_onnx",
        "export",
        "Export the run or the marked runs as ONNX.",
        "kdtui export RUN",
        words="export onnx deploy convert",
    ),
    Key(
        "runs",
        "L",
        "L",
        "measure",
        "",
        "Measure the run or the marked runs; again: cancel.",
        "kdtui measure RUN",
        words="measure benchmark latency speed time",
    ),
    Key(
        "runs",
        "slash",
        "/",
        "filter",
        "filter",
        "Filter: student:b0 T>=4 miou>.65.",
        "kdtui runs --filter …",
        words="filter search find",
    ),
    Key("runs", "s", "s", "sort", "sort", "Sort by the next column.", words="sort order"),
    Key("runs", "S", "S", "reverse", "", "Reverse the sort order."),
    Key(
        "runs",
        "t",
        "t",
        "note",
        "",
        "Edit tags and note.",
        "kdtui note RUN TEXT",
        words="note tag comment label annotate",
    ),
    Key(
        "runs",
        "delete",
        "del",
        "remove",
        "",
        "Delete the run with its files, after confirmation.",
        "kdtui remove RUN",
        words="delete remove rm erase trash",
    ),
    Key(
        "runs",
        "W",
        "W",
        "sweeps",
        "",
        "List the sweeps, with the heat map or the trials of each.",
        "kdtui sweep list",
        words="sweep grid search heat map temperature alpha",
    ),
    Key(
        "runs",
        "B",
        "B",
        "searches",
        "",
        "List the searches within a budget, with the front of score against latency.",
        "kdtui search list",
        words="search budget latency front pareto halving",
    ),
    Key(
        "runs",
        "b",
        "b",
        "new_search",
        "",
        "Search for the best student of this teacher within a budget.",
        "kdtui search --teacher RUN --latency 10ms",
        words="search budget latency smallest student teacher",
    ),
    Key(
        "runs",
        "K",
        "K",
        "teacher_logits",
        "",
        "List the cached teacher logits, and remove them after confirmation.",
        "kdtui cache",
        words="cache logits teacher disk space free clear",
    ),
    Key(
        "runs",
        "F",
        "F",
        "free_space",
        "",
        "Remove training states of ended or marked runs, after confirmation.",
        "kdtui gc",
        words="gc free disk space checkpoints clean states",
    ),
    Key("runs", "y", "y", "copy", "", "Copy the run's id."),
    Key("runs", "escape", "esc", "clear", "", "Clear the filter, then the marks.", palette=False),
    Key("runs", "q", "q", "app.quit", "", "Quit, like ^q on any screen.", palette=False),
    # run
    Key("run", "escape,q", "esc", "back", "back", "Go back to the previous screen.", palette=False),
    *_page_keys("run"),
    Key(
        "run",
        "x",
        "x",
        "stop",
        "stop",
        "Save and stop the run, after confirmation.",
        "kdtui stop RUN",
        words="stop cancel halt abort interrupt end pause",
    ),
    Key(
        "run",
        "X",
        "X",
        "kill",
        "",
        "Kill its processes, after confirmation.",
        "kdtui stop --kill RUN",
        words="kill terminate force abort",
    ),
    Key(
        "run",
        "R",
        "R",
        "resume",
        "resume",
        "Resume the run, optionally for more epochs.",
        "kdtui resume RUN",
        words="resume continue restart rerun go on more epochs",
    ),
    Key(
        "run",
        "t",
        "t",
        "note",
        "note",
        "Edit tags and note.",
        "kdtui note RUN TEXT",
        words="note tag comment label annotate",
    ),
    Key(
        "run",
        "e",
        "e",
        "export_onnx",
        "export",
        "Export the run as ONNX.",
        "kdtui export RUN",
        words="export onnx deploy convert",
    ),
    Key("run", "o", "o", "other", "", "Choose the run to compare with this one."),
    Key(
        "run",
        "c",
        "c",
        "compare",
        "compare",
        "Compare the run with its baseline or the chosen run.",
        "kdtui compare RUN…",
        words="compare diff baseline side",
    ),
    Key(
        "run",
        "L",
        "L",
        "measure",
        "measure",
        "Measure student and teacher; again: cancel.",
        "kdtui measure RUN",
        words="measure benchmark latency speed time",
    ),
    Key(
        "run",
        "b",
        "b",
        "new_search",
        "",
        "Search for the best student of this teacher within a budget.",
        "kdtui search --teacher RUN --latency 10ms",
        words="search budget latency smallest student teacher",
    ),
    Key("run", "N", "N", "clone", "clone", "Set up a new run like this one.", words="clone duplicate copy again like"),
    Key("run", "w", "w", "other_log", "", "Switch between the engine's log and its raw output.", palette=False),
    Key("run", "right", "→", "next_picture", "", "Predictions: next picture.", palette=False),
    Key("run", "left", "←", "previous_picture", "", "Predictions: previous picture.", palette=False),
    Key("run", "up", "↑", "next_epoch", "", "Predictions: next epoch.", palette=False),
    Key("run", "down", "↓", "previous_epoch", "", "Predictions: previous epoch.", palette=False),
    Key("run", "v", "v", "next_part", "", "Predictions: all parts of the picture, or one enlarged.", palette=False),
    Key("run", "k", "k", "next_classes", "", "Predictions: further classes in the legend.", palette=False),
    Key("run", "y", "y", "copy", "", "Copy the run's id."),
    Key("run", "Y", "Y", "copy_path", "", "Copy the path of its folder."),
    Key("run", "C", "C", "copy_command", "", "Copy the command line displayed last, or `kdtui watch RUN`."),
    # new run: letters are typed into fields, so no key is a letter
    Key(
        "new",
        "ctrl+r,f5",
        "^r",
        "launch",
        "launch",
        "Check everything, then launch.",
        "kdtui train PROFILE --detach",
        words="launch start train run",
    ),
    Key(
        "new",
        "ctrl+g",
        "^g",
        "check",
        "check",
        "Plan, estimate the time, and run the pre-flight checks.",
        "kdtui train PROFILE --dry-run",
        words="check plan dry-run preflight",
    ),
    Key(
        "new",
        "ctrl+o,f7",
        "^o",
        "new_profiles",
        "own data",
        "Write profiles for a folder of your own images and labels.",
        "kdtui init FOLDER",
        words="init own data folder profiles dataset",
    ),
    Key("new", "ctrl+y", "^y", "copy_command", "copy", "Copy the equivalent command line."),
    Key("new", "ctrl+down,f6", "^↓", "next_part", "part", "Go to the next section of the form.", palette=False),
    Key("new", "ctrl+up,shift+f6", "^↑", "previous_part", "", "Go to the previous section.", palette=False),
    Key("new", "", "↵ ␣", "", "", "On a title with ▸: show or hide its fields.", palette=False),
    Key("new", "", "del", "", "", "On the title of a loss term: remove it.", palette=False),
    Key("new", "escape", "esc", "leave", "back", "Close the search, then leave the form.", palette=False),
    # compare
    Key("compare", "escape,q", "esc", "back", "back", "Go back to the previous screen.", palette=False),
    Key("compare", "enter", "↵", "open", "open", "Open the run under the cursor.", "kdtui watch RUN"),
    Key(
        "compare",
        "s",
        "s",
        "split",
        "",
        "Compare on another split, evaluating what lacks it; while it runs: cancel.",
        "kdtui compare RUN… --split SPLIT",
        words="split test val train evaluate",
    ),
    Key("compare", "b", "b", "baseline", "baseline", "Use the run as the baseline of Δ; again: matched baselines."),
    Key(
        "compare",
        "e",
        "e",
        "export",
        "export",
        "Write the comparison to a file: .md, .csv, .json.",
        "kdtui compare … -o FILE",
        words="export write save file markdown csv json",
    ),
    Key(
        "compare",
        "E",
        "E",
        "export_onnx",
        "",
        "Export the run under the cursor as ONNX.",
        "kdtui export RUN",
        words="onnx deploy export",
    ),
    Key(
        "compare",
        "L",
        "L",
        "measure",
        "measure",
        "Measure all runs together; again: cancel.",
        "kdtui measure RUN…",
        words="measure benchmark latency speed time",
    ),
    Key(
        "compare", "y", "y", "copy", "copy", "Copy the comparison as Markdown.", "kdtui compare RUN… --format markdown"
    ),
    Key("compare", "C", "C", "copy_command", "", "Copy the equivalent command line."),
    Key("compare", "tab", "tab", "app.focus_next", "", "Switch between the runs and the page below.", palette=False),
    *_page_keys("compare"),
    Key("compare", "p", "p", "pareto", "", "Page 5; again: switch between latency and parameters.", palette=False),
    # export: letters are typed into fields, so no key is a letter
    Key(
        "export",
        "ctrl+r,f5",
        "^r",
        "start",
        "export",
        "Export, and verify each file.",
        "kdtui export RUN…",
        words="export start onnx",
    ),
    Key(
        "export",
        "ctrl+x,f8",
        "^x",
        "cancel",
        "cancel",
        "Cancel the export; existing files are kept.",
        words="cancel stop abort",
    ),
    Key(
        "export",
        "ctrl+e",
        "^e",
        "evaluate",
        "",
        "Evaluate the existing files of the runs on a split.",
        "kdtui evaluate FILE --split SPLIT",
        words="evaluate score onnx test",
    ),
    Key(
        "export",
        "ctrl+l",
        "^l",
        "measure",
        "",
        "Measure the existing files of the runs, or the ONNX file that is named.",
        "kdtui measure FILE",
        words="measure latency speed time onnx",
    ),
    Key("export", "ctrl+y", "^y", "copy_command", "copy", "Copy the equivalent command line."),
    Key("export", "pagedown", "PgDn", "scroll(1)", "more", "Scroll down: files, reports.", palette=False),
    Key("export", "pageup", "PgUp", "scroll(-1)", "", "Scroll up.", palette=False),
    Key("export", "", "← → ␣", "", "", "Choose a value; space toggles a precision.", palette=False),
    Key("export", "escape", "esc", "leave", "back", "Go back; confirms while an export is running.", palette=False),
    # profiles for a folder: letters are typed into fields, so no key is a letter
    Key("profiles", "ctrl+g", "^g", "look", "look", "Look at the folder; enter in a field does the same."),
    Key(
        "profiles",
        "ctrl+r,f5",
        "^r",
        "write",
        "write",
        "Write the profiles, then read every image and label.",
        "kdtui init FOLDER",
        words="write init profiles create save",
    ),
    Key(
        "profiles",
        "ctrl+o,f7",
        "^o",
        "train",
        "new run",
        "Set up a run of the written profiles.",
        "kdtui train PROFILE",
        words="train new run form",
    ),
    Key(
        "profiles",
        "ctrl+x,f8",
        "^x",
        "cancel",
        "cancel",
        "Cancel what is running; written profiles are kept.",
        words="cancel stop abort",
    ),
    Key("profiles", "ctrl+y", "^y", "copy_command", "copy", "Copy the equivalent command line."),
    Key("profiles", "pagedown", "PgDn", "scroll(1)", "", "Scroll down: what was recognised, the data.", palette=False),
    Key("profiles", "pageup", "PgUp", "scroll(-1)", "", "Scroll up.", palette=False),
    Key("profiles", "escape", "esc", "leave", "back", "Cancel what is running, and go back.", palette=False),
    # sweeps
    Key("sweeps", "escape,q", "esc", "back", "back", "Go back to the previous screen.", palette=False),
    Key(
        "sweeps",
        "enter",
        "↵",
        "open",
        "open",
        "In the list: go to the heat map or the trials; there: open the runs.",
        "kdtui sweep show ID",
    ),
    Key(
        "sweeps",
        "tab",
        "tab",
        "app.focus_next",
        "",
        "Switch between the list and the heat map or the trials.",
        palette=False,
    ),
    Key("sweeps", "", "← →", "", "", "In the heat map, with ↑ ↓: move to another field.", palette=False),
    Key("sweeps", "r", "r", "next_rows", "rows", "Show the next key in the rows.", "kdtui sweep show ID --rows KEY"),
    Key(
        "sweeps",
        "c",
        "c",
        "next_columns",
        "columns",
        "Show the next key in the columns.",
        "kdtui sweep show ID --columns KEY",
    ),
    Key(
        "sweeps",
        "v",
        "v",
        "next_value",
        "value",
        "Fix another key at its next value; after the last, the mean over it.",
        "kdtui sweep show ID --at KEY=VALUE",
    ),
    Key(
        "sweeps",
        "f",
        "f",
        "runs",
        "runs",
        "Show all runs of the sweep in the list of runs.",
        "kdtui runs --sweep ID",
        words="filter runs list",
    ),
    Key(
        "sweeps",
        "x",
        "x",
        "stop",
        "stop",
        "Save and stop all runs of the sweep, after confirmation.",
        "kdtui sweep stop ID",
        words="stop cancel halt abort pause",
    ),
    Key(
        "sweeps",
        "R",
        "R",
        "resume",
        "resume",
        "Launch stopped and lost runs again, make missing ones; then failed ones.",
        "kdtui sweep resume ID",
        words="resume continue restart retry complete",
    ),
    Key("sweeps", "y", "y", "copy", "", "Copy the id of the sweep."),
    Key("sweeps", "C", "C", "copy_command", "", "Copy the equivalent command line."),
    # searches
    Key("searches", "escape,q", "esc", "back", "back", "Go back to the previous screen.", palette=False),
    Key(
        "searches",
        "enter",
        "↵",
        "open",
        "open",
        "In the list: go to the networks; there: open the run of the network.",
        "kdtui search show ID",
    ),
    Key("searches", "tab", "tab", "app.focus_next", "", "Switch between list and networks.", palette=False),
    Key(
        "searches",
        "n",
        "n",
        "new_search",
        "new",
        "Set up a search.",
        "kdtui search --teacher RUN --latency 10ms",
        words="new search start launch create budget",
    ),
    Key(
        "searches",
        "f",
        "f",
        "runs",
        "runs",
        "Show all runs of the search in the list of runs.",
        "kdtui runs --filter sweep=ID",
        words="filter runs list",
    ),
    Key(
        "searches",
        "x",
        "x",
        "stop",
        "stop",
        "Save and stop the search and its runs, after confirmation.",
        "kdtui search stop ID",
        words="stop cancel halt abort pause",
    ),
    Key(
        "searches",
        "X",
        "X",
        "kill",
        "",
        "Kill the processes of the search and its runs, after confirmation.",
        "kdtui search stop --kill ID",
        words="kill terminate force abort",
    ),
    Key(
        "searches",
        "R",
        "R",
        "resume",
        "resume",
        "Continue the search; failed runs are trained again after a failure.",
        "kdtui search resume ID",
        words="resume continue restart retry",
    ),
    Key("searches", "l", "l", "toggle_log", "log", "Logarithmic or linear latency."),
    Key("searches", "y", "y", "copy", "", "Copy the id of the search."),
    Key("searches", "C", "C", "copy_command", "", "Copy the equivalent command line."),
    # new search: letters are typed into fields, so no key is a letter
    Key(
        "search",
        "ctrl+r,f5",
        "^r",
        "launch",
        "launch",
        "Plan and check the search, then launch it.",
        "kdtui search --teacher RUN --latency 10ms --detach",
        words="launch start search run",
    ),
    Key(
        "search",
        "ctrl+g",
        "^g",
        "plan",
        "dry run",
        "List the candidates, estimate the time, and run the pre-flight checks.",
        "kdtui search --teacher RUN --latency 10ms --dry-run",
        words="plan check dry-run preflight candidates hours",
    ),
    Key("search", "ctrl+y", "^y", "copy_command", "copy", "Copy the equivalent command line."),
    Key("search", "ctrl+down,f6", "^↓", "next_part", "part", "Go to the next section of the form.", palette=False),
    Key("search", "ctrl+up,shift+f6", "^↑", "previous_part", "", "Go to the previous section.", palette=False),
    Key("search", "escape", "esc", "leave", "back", "Close the search of the list, then leave.", palette=False),
    # chart, on any screen with one
    Key("chart", "m", "m", "next_metric", "metric", "Show the next metric."),
    Key("chart", "M", "M", "previous_metric", "", "Show the previous metric."),
    Key("chart", "l", "l", "toggle_log", "", "Logarithmic or linear y axis."),
    Key("chart", "full_stop", ".", "smoother", "", "Smooth the curves more.", palette=False),
    Key("chart", "comma", ",", "rougher", "", "Smooth the curves less.", palette=False),
    Key("chart", "z", "z", "zoom_in", "zoom", "Zoom in at the right end, or at the cursor.", palette=False),
    Key("chart", "Z", "Z", "zoom_out", "", "Zoom out.", palette=False),
    Key("chart", "left_curly_bracket", "{", "pan_left", "", "Pan to the left.", palette=False),
    Key("chart", "right_curly_bracket", "}", "pan_right", "", "Pan to the right.", palette=False),
    Key(
        "chart",
        "left_square_bracket",
        "[",
        "cursor_left",
        "",
        "Move the cursor to the left, to read values.",
        palette=False,
    ),
    Key(
        "chart",
        "right_square_bracket",
        "]",
        "cursor_right",
        "",
        "Move the cursor to the right, to read values.",
        palette=False,
    ),
    Key("chart", "", "← →", "", "", "With focus on the chart: move the cursor; shift: pan.", palette=False),
    Key("chart", "0", "0", "reset_view", "", "Reset zoom and cursor."),
)


def keys_of(*scopes: str) -> list[Key]:
    """The keys of some scopes, in the order of the table.

    Raises:
        KeyError: Unknown scope.
    """
    for scope in scopes:
        SCOPES[scope]
    return [key for key in KEYS if key.scope in scopes]


def bindings(*scopes: str) -> list[BindingType]:
    """Textual bindings of some scopes."""
    from textual.binding import Binding

    return [
        Binding(key.keys, key.action, key.help, key_display=key.shown, show=False)
        for key in keys_of(*scopes)
        if key.keys
    ]


def bindings_over_fields(scope: str) -> list[BindingType]:
    """Textual bindings of a screen with text fields, and those that change the field.

    All but escape have priority: otherwise a field would handle some of them.
    """
    from textual.binding import Binding

    return [
        *(
            Binding(key.keys, key.action, key.help, key_display=key.shown, show=False, priority=key.keys != "escape")
            for key in keys_of(scope)
            if key.keys
        ),
        Binding("tab", "app.focus_next", "Next field", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", "Field before", show=False, priority=True),
    ]


def bar(scopes: Iterable[str]) -> list[Key]:
    """The keys in the key bar."""
    return [key for key in keys_of(*scopes) if key.label]


def as_json() -> list[dict[str, str]]:
    """The table with stable JSON keys."""
    return [
        {
            "screen": SCOPES[key.scope],
            "key": key.shown,
            "action": key.action,
            "help": key.help,
            "command": key.command,
        }
        for key in KEYS
    ]
