"""The bottom of the form: mistakes or the plan, the pre-flight checks, and the equivalent command."""

from __future__ import annotations

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.message import Message

from kdtui.errors import KdtuiError
from kdtui.launch.data_check import ALL_DATA
from kdtui.launch.launcher import Check
from kdtui.launch.plan import Caution, Plan, merged
from kdtui.profile.settings import SETTINGS
from kdtui.text import counted, joined_lines, millions, one_line, ratio, span
from kdtui.tui.form import Checked
from kdtui.tui.form.costs import smaller
from kdtui.tui.form.mistakes import GENERAL, in_form
from kdtui.tui.form.queue import QueuePosition
from kdtui.tui.screens.new_run.teacher import called
from kdtui.tui.values import Span, TextLines
from kdtui.tui.widgets.panel import Panel

_NO_TIME = "time unknown: no similar run"


@dataclass(frozen=True)
class Standing:
    """State of the form.

    Attributes:
        checked: Result of checking the draft; None before the first check.
        plan: Plan of this draft; its duration is known before its checks.
        tested: Whether the checks of the plan were run by the engine.
        place: Place of the runs in the queue; None until the slots were counted.
        teacher_parameters: Number of parameters of the chosen teacher; None if unknown.
        doing: The running step: ``checking``, ``launching``, or empty.
        failure: Error of the last plan or launch.
    """

    checked: Checked | None = None
    plan: Plan | None = None
    tested: bool = False
    place: QueuePosition | None = None
    teacher_parameters: int | None = None
    doing: str = ""
    failure: KdtuiError | None = None


class CheckResult(VerticalScroll):
    """The widget at the bottom of the form."""

    DEFAULT_CSS = """
    CheckResult { height: auto; width: 1fr; scrollbar-size-vertical: 1; }
    """

    class Resized(Message):
        """Posted when the height changed."""

    def __init__(self) -> None:
        super().__init__(id="verdict", can_focus=False)
        self._state = Panel(wraps=True)
        self._command = Panel(wraps=True)

    def compose(self) -> ComposeResult:
        """Compose state and command."""
        yield self._state
        yield self._command

    @property
    def text(self) -> str:
        """The displayed text."""
        return f"{self._state.text}\n{self._command.text}"

    def on_resize(self) -> None:
        """Report the new height to the form."""
        self.post_message(self.Resized())

    def show(self, standing: Standing) -> None:
        """Display the state of the form."""
        self._state.show(state_lines(standing))
        command = "" if standing.checked is None else standing.checked.command
        self._command.show([[("$ ", "muted"), (command, "strong")]] if command else [])


def state_lines(standing: Standing) -> TextLines:
    """Lines of mistakes, or of plan and checks, and of the last failure."""
    checked = standing.checked
    if checked is None:
        return [[("reading…", "muted")]]
    lines = [] if standing.failure is None else _failure(standing.failure)
    if checked.mistakes:
        return [*lines, *_mistakes(checked)]
    if standing.place is not None and standing.place.trouble:
        lines.append([("✗ ", "bad"), (standing.place.trouble, "bad")])
    reused = [[("  ", ""), (note, "muted")] for note in checked.group.notes()]
    return [*lines, _plan(checked, standing), *reused, *_checks(standing)]


def _facts(message: str) -> str:
    """The lines of a message in one, phrased for the form."""
    return in_form(joined_lines(message))


def _failure(error: KdtuiError) -> TextLines:
    return [[("✗ ", "bad"), (_facts(error.message), "bad")], *_next(error.hint)]


def _next(hint: str | None) -> TextLines:
    """The next step, phrased for the form; empty if the form has no equivalent."""
    words = in_form(hint or "")
    return [[("  next: ", "muted"), (words, "")]] if words else []


def _mistakes(checked: Checked) -> TextLines:
    missing = [_label(name) for name, text in checked.mistakes.items() if text.startswith("choose ")]
    names = [_label(name) for name in checked.mistakes if name != GENERAL and _label(name) not in missing]
    lines: TextLines = []
    if GENERAL in checked.mistakes:
        lines.append([("✗ ", "bad"), (checked.mistakes[GENERAL], "bad")])
    if names:
        count = "a mistake" if len(names) == 1 else f"{len(names)} mistakes"
        lines.append([("✗ ", "bad"), (f"{count}: {', '.join(names)}", "bad")])
    if missing:
        lines.append([("still to choose: ", ""), (", ".join(missing), "strong")])
    return lines


def _label(name: str) -> str:
    return SETTINGS[name].label if name in SETTINGS else name


def _plan(checked: Checked, standing: Standing) -> list[Span]:
    count = len(checked.profiles)
    profile = checked.profiles[0]
    epochs = f"{profile.training.epochs} epoch{'s' if profile.training.epochs != 1 else ''}"
    words = [f"{count} run{'s' if count > 1 else ''} of {epochs}"]
    name, first = profile.name, count
    if checked.sampled is not None:  # whose runs here are examples
        name, first = checked.sampled.base.name, 1
        count = checked.trials * len(checked.sampled.seeds)
        pruned = ", worse ones pruned" if checked.sampled.prune else ""
        trials = f"{counted(checked.trials, 'trial')} by {checked.sampled.sampler}{pruned}"
        words = [f"{trials}, {counted(count, 'run')} of {epochs}"]
    plan = standing.plan
    if plan is not None:
        source = plan.runs[0].eta_from
        known = plan.eta_seconds is not None and source is not None
        seconds = (plan.eta_seconds or 0.0) * count / len(plan.runs)
        words.append(f"about {span(seconds)}, like {called(source or '')}" if known else _NO_TIME)
        size = plan.runs[0]
        if size.parameters is not None:
            by = smaller(standing.teacher_parameters, size.parameters) or size.compression
            than = f", {ratio(by)} smaller" if by else ""
            words.append(f"{millions(size.parameters)} parameters{than}")
    place = "" if standing.place is None or standing.place.trouble else standing.place.words(first)
    return [(name, "strong"), (f"  {' · '.join(words)}", ""), (f" · {place}" if place else "", "good")]


def _checks(standing: Standing) -> TextLines:
    if standing.doing == "launching":
        return [[("launching…", "strong")]]
    if standing.doing == "checking":
        return [[("checking…", "strong"), (" data, student, precision, teacher", "muted")]]
    plan = standing.plan
    if plan is None or not standing.tested:
        return [[("not checked yet: ^g or a launch runs the checks", "muted")]]
    failed = [check for run in plan.runs for check in run.checks if not check.ok]
    if failed:
        return [line for check in merged(failed) for line in _failed(check)]
    checks = plan.runs[0].checks
    warnings = dict.fromkeys(warning for run in plan.runs for warning in run.warnings)
    terms = next((check.message for check in checks if check.name == "loss terms"), "")
    costs = terms.splitlines()[1:]  # after their names: parameters, memory, what depends on the batch
    data = next((check.message for check in checks if check.name == ALL_DATA), None)
    return [
        [("✓ ", "good"), (f"{len(checks)} checks passed: {', '.join(check.name for check in checks)}", "good")],
        *([("  ", ""), (one_line(line), "muted")] for line in costs),
        # Not phrased for the form, which has no equivalent of the command that it names.
        *([[("  data: ", "muted"), (one_line(data), "")]] if data is not None else []),
        *(line for warning in warnings for line in _warned(warning)),
    ]


def _failed(check: Check) -> TextLines:
    return [[("✗ ", "bad"), (f"{check.name}: ", "bad"), (_facts(check.message), "bad")], *_next(check.hint)]


def _warned(warning: Caution) -> TextLines:
    return [[("! ", "warn"), (in_form(warning.message), "warn")], *_next(warning.hint)]
