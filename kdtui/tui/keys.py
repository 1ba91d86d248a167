"""The key table, the source of bindings, key bar, help screen, documentation and ``kdtui keys --json``.

It does not import Textual, so that the command line can print it.
"""

from __future__ import annotations

from collections.abc import Iterable
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


SCOPES = {
    "app": "Everywhere",
    "runs": "Runs",
    "chart": "Chart",
    "run": "One run",
    "new": "New run",
    "compare": "Compare",
    "export": "Export",
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
    Key("app", "ctrl+p", "^p", "command_palette", "cmds", "Search everything that can be done.", palette=False),
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
    Key("app", "ctrl+q", "^q", "quit", "", "Leave; running trainings continue.", words="quit exit close bye"),
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
        *("runs", "x", "x", "stop", "stop"),
        "Stop the run, or the marked ones: they save and end; after a question.",
        "kdtui stop RUN",
        words="stop cancel halt abort interrupt end pause",
    ),
    Key(
        "runs",
        "X",
        "X",
        "kill",
        "",
        "End the run's processes at once, after a question.",
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
        "Export the run, or the marked ones, as ONNX.",
        "kdtui export RUN",
        words="export onnx deploy convert",
    ),
    Key(
        "runs",
        "L",
        "L",
        "measure",
        "",
        "Measure it, or the marked ones after a question; again: cancel.",
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
    Key("runs", "S", "S", "reverse", "", "Sort the other way round."),
    Key(
        "runs",
        "t",
        "t",
        "note",
        "",
        "Write tags and a note.",
        "kdtui note RUN TEXT",
        words="note tag comment label annotate",
    ),
    Key(
        "runs",
        "delete",
        "del",
        "remove",
        "",
        "Delete the run with its files, after a question.",
        "kdtui remove RUN",
        words="delete remove rm erase trash",
    ),
    Key("runs", "y", "y", "copy", "", "Copy the run's id."),
    Key("runs", "escape", "esc", "clear", "", "Take the filter away, then the marks.", palette=False),
    Key("runs", "q", "q", "app.quit", "", "Leave, as ^q does everywhere.", palette=False),
    # run
    Key("run", "escape,q", "esc", "back", "back", "Go back to where you came from.", palette=False),
    Key("run", "1", "1", "page('curves')", "", "Page 1: curves of losses and mIoU."),
    Key("run", "2", "2", "page('numbers')", "", "Page 2: losses, speed, scores, compression, IoU per class, remarks."),
    Key("run", "3", "3", "page('predictions')", "", "Page 3: what teacher and student see in some pictures."),
    Key(
        "run",
        "4",
        "4",
        "page('log')",
        "",
        "Page 4: the log, following; w shows what `kdtui logs --raw` prints.",
        words="logs output worker",
    ),
    Key(
        "run",
        "5",
        "5",
        "page('profile')",
        "",
        "Page 5: the profile, and what differs from another run.",
        words="settings configuration config",
    ),
    Key(
        "run",
        "x",
        "x",
        "stop",
        "stop",
        "Stop the run: it saves and ends; after a question.",
        "kdtui stop RUN",
        words="stop cancel halt abort interrupt end pause",
    ),
    Key(
        "run",
        "X",
        "X",
        "kill",
        "",
        "End its processes at once, after a question.",
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
        "Write tags and a note.",
        "kdtui note RUN TEXT",
        words="note tag comment label annotate",
    ),
    Key(
        "run",
        "e",
        "e",
        "export_onnx",
        "export",
        "Export it as ONNX: the menu.",
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
        "Compare it with its baseline or the chosen run.",
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
    Key("run", "N", "N", "clone", "clone", "Set up a new run like this one.", words="clone duplicate copy again like"),
    Key("run", "w", "w", "other_log", "", "The engine's log, or what its processes printed.", palette=False),
    Key("run", "right", "→", "next_picture", "", "Predictions: the next picture.", palette=False),
    Key("run", "left", "←", "previous_picture", "", "Predictions: the picture before.", palette=False),
    Key("run", "up", "↑", "next_epoch", "", "Predictions: a later epoch.", palette=False),
    Key("run", "down", "↓", "previous_epoch", "", "Predictions: an earlier epoch.", palette=False),
    Key("run", "v", "v", "next_part", "", "Predictions: all parts of the picture, or one, larger.", palette=False),
    Key("run", "y", "y", "copy", "", "Copy the run's id."),
    Key("run", "Y", "Y", "copy_path", "", "Copy the path of its folder."),
    Key("run", "C", "C", "copy_command", "", "Copy the command line that was shown last, or `kdtui watch RUN`."),
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
        "Plan, time and pre-flight checks.",
        "kdtui train PROFILE --dry-run",
        words="check plan dry-run preflight",
    ),
    Key("new", "ctrl+y", "^y", "copy_command", "copy", "Copy the command line that does the same."),
    Key("new", "ctrl+down,f6", "^↓", "next_part", "part", "To the next part of the form.", palette=False),
    Key("new", "ctrl+up,shift+f6", "^↑", "previous_part", "", "To the part before.", palette=False),
    Key("new", "escape", "esc", "leave", "back", "Close the search, then leave the form.", palette=False),
    # compare
    Key("compare", "escape,q", "esc", "back", "back", "Go back to where you came from.", palette=False),
    Key("compare", "enter", "↵", "open", "open", "Open the run under the cursor.", "kdtui watch RUN"),
    Key("compare", "b", "b", "baseline", "baseline", "Measure Δ against it; again: against the matched baselines."),
    Key(
        "compare",
        "e",
        "e",
        "export",
        "export",
        "Write it to a file: .md, .csv, .json.",
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
        "Measure all of them together; again: cancel.",
        "kdtui measure RUN…",
        words="measure benchmark latency speed time",
    ),
    Key("compare", "y", "y", "copy", "copy", "Copy it as Markdown.", "kdtui compare RUN… --format markdown"),
    Key("compare", "C", "C", "copy_command", "", "Copy the command line that shows the same."),
    Key("compare", "tab", "tab", "app.focus_next", "", "From the runs to the page below and back.", palette=False),
    Key("compare", "1", "1", "page('curves')", "", "Page 1: a curve of all runs, by images seen."),
    Key("compare", "2", "2", "page('numbers')", "", "Page 2: every number, the teachers' beside the runs'."),
    Key("compare", "3", "3", "page('differs')", "", "Page 3: the settings in which the profiles differ."),
    Key("compare", "4", "4", "page('notes')", "", "Page 4: seeds, and what keeps a Δ from being fair."),
    Key("compare", "5", "5", "page('pareto')", "", "Page 5: mIoU against its cost.", "kdtui compare … --pareto COST"),
    Key("compare", "p", "p", "pareto", "", "Page 5; there: against latency, or parameters.", palette=False),
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
        "Give up what is being exported; former files stay.",
        words="cancel stop abort give up",
    ),
    Key("export", "ctrl+y", "^y", "copy_command", "copy", "Copy the command line that does the same."),
    Key("export", "pagedown", "PgDn", "scroll(1)", "more", "See what is below: files, reports.", palette=False),
    Key("export", "pageup", "PgUp", "scroll(-1)", "", "See what is above.", palette=False),
    Key("export", "", "← → ␣", "", "", "Choose among a few words; space takes precisions in or out.", palette=False),
    Key("export", "escape", "esc", "leave", "back", "Go back; asks while something is being exported.", palette=False),
    # chart, on any screen with one
    Key("chart", "m", "m", "next_metric", "metric", "Show the next metric."),
    Key("chart", "M", "M", "previous_metric", "", "Show the metric before."),
    Key("chart", "l", "l", "toggle_log", "", "Logarithmic or linear height."),
    Key("chart", "full_stop", ".", "smoother", "", "Smooth the curves more.", palette=False),
    Key("chart", "comma", ",", "rougher", "", "Smooth the curves less.", palette=False),
    Key("chart", "z", "z", "zoom_in", "zoom", "Look closer at the right end, or at the chart's cursor.", palette=False),
    Key("chart", "Z", "Z", "zoom_out", "", "Look from farther away.", palette=False),
    Key("chart", "left_curly_bracket", "{", "pan_left", "", "Move the closer look to the left.", palette=False),
    Key("chart", "right_curly_bracket", "}", "pan_right", "", "Move it to the right.", palette=False),
    Key("chart", "left_square_bracket", "[", "cursor_left", "", "Read values: cursor to the left.", palette=False),
    Key("chart", "right_square_bracket", "]", "cursor_right", "", "Read values: cursor to the right.", palette=False),
    Key("chart", "", "← →", "", "", "With the focus on the chart: read values; with shift: move.", palette=False),
    Key("chart", "0", "0", "reset_view", "", "The whole curve again, without a cursor."),
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
