"""From the form to runs: checks, launch, and what keeps a launch from happening."""

from __future__ import annotations

import json
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from kdtui.errors import EngineError, KdtuiError, LaunchError
from kdtui.launch import engine_process
from kdtui.launch.alive import probe
from kdtui.launch.groups import Group
from kdtui.launch.local import LocalLauncher
from kdtui.profile import load
from kdtui.store.state import LIVE, State
from kdtui.store.store import RunStore
from kdtui.sweep.controlled import controller_state, stop_all
from kdtui.sweep.folder import SWEEPS, SweepFolder
from kdtui.tui.app import KdtuiApp
from kdtui.tui.debounce import Debounced
from kdtui.tui.form import RunDraft, check
from kdtui.tui.screens.new_run import NewRunScreen
from kdtui.tui.screens.new_run.background_check import Behind, Launched
from kdtui.tui.screens.new_run.pickers import MethodSection
from kdtui.tui.screens.new_run.sections import FieldRow
from kdtui.tui.screens.new_run.verdict import CheckResult
from kdtui.tui.screens.run.screen import RunScreen
from kdtui.tui.screens.runs import RunsScreen
from kdtui.tui.screens.sweeps import SweepsScreen
from kdtui.tui.widgets.choices import Heading, LineInput
from tests.cli.conftest import COMMANDS, several
from tests.fake_engine import COMMAND
from tests.tui.new_run.form import SMALL, form, read, verdict
from tests.tui.scenes import Engine, cockpit, settled, shows, text, until

FINE = {"check": {"checks": [{"name": "data", "ok": True, "message": "7 images", "hint": None}]}}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    """A store with a run that may teach, an engine without torch, one slot; what still runs at the end is killed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDTUI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KDTUI_ENGINE", COMMAND)
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:1,gpu:0")
    store = RunStore(tmp_path / "runs", alive=probe)
    store.create(load("demo-teacher")).best.write_bytes(b"weights")
    yield store
    for run in store.runs():
        if store.summary(run).state in LIVE:
            LocalLauncher(store).stop(run, kill=True)


class Slow:
    """An engine's door that answers once it is told to."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()

    def __call__(self, verb: str, *arguments: str) -> dict[str, Any]:
        self.asked.set()
        self.answer.wait()
        return FINE["check"]


async def opened(pilot: Pilot[Any], draft: RunDraft) -> NewRunScreen:
    """The form with this draft, once it was read."""
    app = pilot.app
    assert isinstance(app, KdtuiApp)
    await settled(pilot)
    app.new_run()
    assert isinstance(app.screen, NewRunScreen)
    screen = app.screen
    await until(pilot, lambda: screen.read_draft is not None)
    await show(pilot, screen, draft)
    return screen


async def show(pilot: Pilot[Any], screen: NewRunScreen, draft: RunDraft) -> None:
    """Have another draft in the form, and wait until it was read."""
    screen.edit(draft)
    screen.refill()
    await until(pilot, lambda: screen.read_draft == draft)


def distilled(name: str, **texts: str) -> RunDraft:
    return RunDraft(profile="demo-distilled", teacher="demo-teacher", name=name, epochs="1", **texts)


@pytest.mark.slow
async def test_several_runs_are_set_up_and_launched_by_keys_alone(store: RunStore) -> None:
    app = cockpit(store, ask=engine_process.ask)
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and app.screen.read_draft is not None)
        await pilot.press(*"demo-di", "enter", "tab", *"demo-te", "enter")
        await read(pilot)
        await pilot.press("ctrl+down", *"small 050", "enter", "ctrl+down", *"cwd", "enter")
        await read(pilot)
        await pilot.press("ctrl+down", "enter", "down", "down", "5")  # the weight of its first term
        await shows(pilot, "▾ DISTILLATION TERMS  5 cwd")
        assert "METHOD  cwd, changed" in form(app).query_one(MethodSection).query_one(Heading).text
        await pilot.press("ctrl+down", "right", "shift+right", "tab", "tab", "left")
        await pilot.press("ctrl+down", *"100", *("ctrl+down",) * 6, *"1,2", "down", "space", "down", "right")
        await read(pilot)
        assert form(app).draft.equal_time == "student"
        await shows(pilot, "✗ the time of an epoch of", "a mistake: equal time")
        await pilot.press("left")
        await shows(pilot, "RUNS  4 runs, 2 baselines of them")
        await until(pilot, lambda: "4 runs of 100 epochs" in verdict(app))
        command = form(app).checked.command
        assert " ".join(command.split()) in " ".join(verdict(app).split())
        await pilot.press("f5")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))

        assert app.said[1] == command
        for part in (
            "--method cwd --student tu-mobilenetv3_small_050 -T 3.1 -a 0.89 --epochs 100 --seeds 1,2 --with-baseline",
            """--set 'distillation.terms=[{kind="cwd",weight=5}]'""",
        ):
            assert part in command
        profiles = [run.profile() for run in store.runs()[1:]]
        assert sorted((one.seed, one.distillation.enabled) for one in profiles) == [
            (1, False), (1, True), (2, False), (2, True),
        ]  # fmt: skip
        for profile in profiles:
            assert (profile.student.label, profile.training.epochs) == ("tu-mobilenetv3_small_050", 100)
            terms = [(term.kind, term.weight) for term in profile.distillation.terms or ()]
            assert terms == ([("cwd", 5)] if profile.distillation.enabled else [])


async def test_a_term_that_does_not_fit_the_networks_is_reported_at_its_field(store: RunStore) -> None:
    engine = Engine()
    app = cockpit(store, ask=engine)
    second_of_two = {"distillation.terms": "kl,cwd", "distillation.terms[1].on": "encoder.9"}
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, distilled("student"))
        for texts, where, field in (
            (second_of_two, "distillation.terms[1].on", "distillation.terms[1].on"),
            ({"method": "dkd"}, "distillation.terms[0]", "distillation.terms[0].weight"),
        ):
            message = f"it does not fit\n  where: {where}\n  found: that\n  allowed: this"
            refused = {"name": "loss terms", "ok": False, "message": message, "hint": "did you mean this?"}
            engine.answers["check"] = {"checks": [refused]}
            await show(pilot, screen, distilled("student", **texts))
            await pilot.press("ctrl+r")
            await shows(pilot, "✗ it does not fit; found: that", "did you mean this?")
            await until(pilot, lambda: screen._focused(FieldRow) and screen._focused_field() == field)  # noqa: B023
            assert "not launched" in app.said[0]
            assert len(store.runs()) == 1

            engine.answers["check"] = FINE["check"]
            await pilot.press("ctrl+g")
            await until(pilot, lambda: "it does not fit" not in text(app))


async def test_a_launch_checks_first_then_opens_the_run(store: RunStore) -> None:
    app = cockpit(store, ask=engine_process.ask)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, distilled("student", tags="mine, new", seeds="3", temperature="2.5"))
        await until(pilot, lambda: "starts now" in screen.query_one(CheckResult).text)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))

        run = store.find("student")
        assert app.said[0] == f"{run.id} launched: starts now"
        assert app.said[1] == screen.checked.command
        profile = run.profile()
        assert (profile.seed, profile.distillation.temperature, profile.training.epochs) == (3, 2.5, 1)
        assert run.notes().tags == ("demo", "distilled", "mine", "new")
        assert run.manifest().origin == "kdtui"
        await until(pilot, lambda: store.summary(run).state is State.FINISHED)


async def test_seeds_and_baselines_are_launched_together_and_their_queue_is_displayed(store: RunStore) -> None:
    app = cockpit(store, ask=engine_process.ask)
    async with app.run_test(size=(120, 36)) as pilot:
        slower = distilled("slower", seeds="0,1", baseline="true").edited(epochs="100")  # longer than we look
        screen = await opened(pilot, slower)
        await until(pilot, lambda: "1 of 4 starts now, the others wait" in screen.query_one(CheckResult).text)
        await pilot.press("f5")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))

        assert app.said[0].startswith("4 runs launched")
        made = sorted((run.profile().name, run.profile().seed) for run in store.runs()[1:])
        assert made == [("slower", 0), ("slower", 1), ("slower-baseline", 0), ("slower-baseline", 1)]
        assert len({run.manifest().group for run in store.runs()[1:]}) == 1
        await shows(pilot, "slower-basel… s1 queued")
        # Those baselines are those of another temperature.
        screen = await opened(pilot, slower.edited(temperature="3", name="next"))
        await until(pilot, lambda: "waits for the CPU behind 4 runs" in screen.query_one(CheckResult).text)
        assert "2 runs of 100 epochs" in screen.query_one(CheckResult).text
        await shows(pilot, "2 runs", "2 baselines reused", "baseline seed 1:")


async def test_a_failed_check_displays_the_reason_and_prevents_the_launch(store: RunStore) -> None:
    app = cockpit(store, ask=engine_process.ask)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, distilled("unfit"))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.said[0])

        assert "✗ teacher: 4 classes, 3 wanted" in screen.query_one(CheckResult).text
        assert "next: another teacher" in screen.query_one(CheckResult).text
        assert app.screen is screen
        assert len(store.runs()) == 1
        # What failed was this draft: another one is not checked yet.
        screen.edit(distilled("fit"))
        await until(pilot, lambda: "not checked yet" in screen.query_one(CheckResult).text)


async def test_checks_launch_nothing_and_their_results_are_displayed_once(store: RunStore) -> None:
    engine = Engine(dict(FINE))
    app = cockpit(store, ask=engine)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, distilled("student", seeds="0,1,2"))
        verdict = screen.query_one(CheckResult)
        await pilot.press("ctrl+g")
        await until(pilot, lambda: "✓ 4 checks passed: disk, run store, device, data" in verdict.text)
        assert [verb for verb, *_ in engine.asked] == ["check"]  # several seeds are one question

        doubts = [{"code": "a", "message": "the labels look wrong", "hint": "look at them"}]
        engine.answers["check"] = {**FINE["check"], "warnings": doubts}
        await pilot.press("ctrl+g")
        await until(pilot, lambda: "! the labels look wrong" in verdict.text)
        assert len(engine.asked) == 2
        assert "✓ 4 checks passed" in verdict.text
        assert verdict.text.count("the labels look wrong") == 1
        assert "next: look at them" in verdict.text

        terms = {
            "name": "loss terms",
            "ok": True,
            "message": "distill.mgd\n  distill.mgd: trains 5 parameters",
            "hint": None,
        }
        surveyed = {"train": [64, 367], "val": [9, 9]}
        engine.answers["check"] = {"checks": [*FINE["check"]["checks"], terms], "surveyed": surveyed}
        await pilot.press("ctrl+g")
        known = "data: only 64 of 367 train samples read; `kdtui data PROFILE` reads"
        await until(pilot, lambda: known in verdict.text)
        assert "distill.mgd: trains 5 parameters" in verdict.text

        await show(pilot, screen, distilled("student"))
        engine.answers["check"] = EngineError("no answer", hint="kdtui doctor")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "✗ engine: no answer" in verdict.text)
        assert "kdtui doctor" in verdict.text
        assert len(store.runs()) == 1


async def test_editing_during_the_checks_prevents_the_launch(store: RunStore) -> None:
    engine = Slow()
    app = cockpit(store, ask=engine)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, distilled("student"))
        await pilot.press("ctrl+r")
        await until(pilot, engine.asked.is_set)
        assert "checking…" in screen.query_one(CheckResult).text
        screen.focus_field("epochs")
        await pilot.press("end", "0")
        engine.answer.set()
        await until(pilot, lambda: screen.read_draft == screen.draft and screen.standing.plan is not None)

        assert "nothing was launched" in app.said[0]
        assert "1 run of 10 epochs" in screen.query_one(CheckResult).text
        assert "not checked yet" in screen.query_one(CheckResult).text
        assert len(store.runs()) == 1


async def test_keys_typed_just_before_a_launch_are_included(store: RunStore) -> None:
    engine = Engine(dict(FINE))
    app = cockpit(store, ask=engine)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, distilled("student"))
        await pilot.press("ctrl+g")
        await until(pilot, lambda: screen.standing.tested)
        screen.focus_field("epochs")
        await pilot.pause()
        # As keys come that were typed over a slow line: all at once.
        for key in ("2", "ctrl+r"):
            app.post_message(_key(key))
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        assert store.find("student").profile().training.epochs == 2


def _key(key: str) -> Any:
    from textual.events import Key

    return Key(key, key if len(key) == 1 else None)


async def test_an_impossible_or_failed_launch_is_reported_and_the_form_is_kept(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = cockpit(store, ask=Engine(dict(FINE)))
    async with app.run_test(size=(80, 24)) as pilot:
        # More devices than this machine has are refused before anything is made.
        screen = await opened(pilot, distilled("student", accelerator="gpu"))
        verdict = screen.query_one(CheckResult)
        await until(pilot, lambda: "this machine has none" in verdict.text)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "not launched" in app.said[0])
        assert len(store.runs()) == 1
        assert "this machine has none" in text(app)

        # Of several that were launched in part, the rest is left.
        await show(pilot, screen, distilled("student", seeds="4,5,6"))
        failure = LaunchError("the disk is full", hint="free some space")
        screen._launched("starts now", screen.checked, Launched(("20260821-143000-student",), failure))
        await until(pilot, lambda: screen.read_draft == screen.draft and screen.draft.seeds == "5,6")
        assert "the disk is full" in verdict.text
        assert screen.texts()["seeds"] == "5,6"
        assert "1 launched" in app.said[0]

        # An engine that cannot be started.
        await show(pilot, screen, distilled("student", seeds="5"))
        assert screen.standing.failure is None
        monkeypatch.setenv("KDTUI_ENGINE", "/nowhere/engine")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: screen.standing.failure is not None)
        assert "✗ The engine's program was not found" in verdict.text
        assert app.screen is screen
        assert screen.draft == distilled("student", seeds="5")
        assert screen.texts()["seeds"] == "5"


def now(work: Callable[[], Any], then: Callable[[Any], None], *, failed: Callable[[KdtuiError], None] | None) -> None:
    """Does work where it is asked for."""
    try:
        result = work()
    except KdtuiError as error:
        assert failed is not None
        failed(error)
    else:
        then(result)


def test_a_launch_that_fails_leaves_no_runs(store: RunStore) -> None:
    checked = check(distilled("student", seeds="1,2"), store)
    good, bad = checked.group.runs
    unnamed = replace(bad, profile=bad.profile.model_copy(update={"name": "a..b"}))
    told: list[Launched] = []
    failed: list[KdtuiError] = []

    several = replace(checked, group=Group((good, unnamed)))
    Behind(store, Engine(), now, lambda run_id: None).launch(several, told.append, failed.append)

    assert told[0].ids == ()
    assert told[0].error is not None
    assert not failed
    assert len(store.runs()) == 1


def test_only_the_newest_of_rapid_requests_is_carried_out() -> None:
    waiting: list[Callable[[], None]] = []

    def later(work: Callable[[], Any], then: Callable[[Any], None], *, failed: Any) -> None:
        waiting.append(lambda: now(work, then, failed=failed))

    def fails() -> int:
        raise LaunchError("no")

    line = Debounced(later)
    told: list[object] = []
    for number in range(4):
        line.ask(lambda number=number: number, told.append, told.append)  # type: ignore[misc]
    assert len(waiting) == 1
    waiting.pop()()
    waiting.pop()()
    assert told == [0, 3]
    # A failure does not end the line.
    line.ask(fails, told.append, lambda error: told.append(error.what))
    line.ask(lambda: 5, told.append, told.append)
    waiting.pop(0)()
    waiting.pop(0)()
    assert told == [0, 3, "no", 5]
    assert not waiting


async def test_several_values_of_a_key_make_the_sweep_that_the_command_makes(store: RunStore) -> None:
    app = cockpit(store, ask=engine_process.ask)
    async with app.run_test(size=(120, 36)) as pilot:
        draft = distilled("held", temperature="1, 2", baseline="true")
        screen = await opened(pilot, draft.edited(extra="training.weight_decay=0,1e-4"))
        await until(pilot, lambda: "6 runs" in screen.query_one(CheckResult).text or screen.checked.mistakes)
        assert not screen.checked.mistakes and screen.checked.sweep is not None
        command = screen.checked.command
        assert command.startswith("kdtui sweep demo-distilled --teacher demo-teacher -T 1,2 ")
        assert "--set training.weight_decay=0,1e-4" in command
        planned = several(shlex.split(command.replace("--detach", "--dry-run --json"))[1:])
        told = json.loads(subprocess.run(planned, capture_output=True, text=True, check=True).stdout.split("\0")[0])
        assert (told["sweep"], len(told["runs"])) == (screen.checked.sweep.id, 6)
        await pilot.press("f5")
        await until(pilot, lambda: isinstance(app.screen, SweepsScreen) and app.screen.grid is not None)
        assert app.said[0].startswith("6 runs launched")
        assert {run.manifest().sweep is not None for run in store.runs()[1:]} == {True}
        await shows(pilot, screen.checked.sweep.id, "0/6")
        again = await opened(pilot, screen.draft)
        await until(pilot, lambda: "all runs of sweep" in again.checked.mistakes.get("temperature", ""))


async def test_a_range_makes_the_sampled_sweep_that_the_command_makes(store: RunStore) -> None:
    app = cockpit(store, ask=engine_process.ask)
    async with app.run_test(size=(120, 36)) as pilot:
        draft = distilled("held", temperature="1..8", extra="training.weight_decay=1e-5..1e-2:log")
        screen = await opened(pilot, draft)
        await until(pilot, lambda: "20 trials by tpe" in screen.query_one(CheckResult).text or screen.checked.mistakes)
        assert not screen.checked.mistakes and screen.checked.sampled is not None
        command = screen.checked.command
        assert "-T 1..8 " in command and "--sampler tpe --trials 20" in command
        planned = several(shlex.split(command.replace("--detach", "--dry-run --json"))[1:])
        told = json.loads(subprocess.run(planned, capture_output=True, text=True, check=True).stdout.split("\0")[0])
        assert (told["sweep"], told["trials"]) == (screen.checked.sampled.id, 20)
        await pilot.press("f5")
        await until(pilot, lambda: isinstance(app.screen, SweepsScreen) and app.screen.sampled is not None)
        await shows(pilot, screen.checked.sampled.id, "20 trials")
        assert app.said[0].startswith(f"{told['sweep']} launched")
        folder = SweepFolder(store.root / SWEEPS / told["sweep"])
        stop_all(store, folder)
        await until(pilot, lambda: not controller_state(folder).live)


@pytest.mark.parametrize(
    ("texts", "words", "trials"),
    [
        ({"temperature": "1..8"}, "--sampler tpe --trials 20", 20),
        ({"temperature": "1..8", "trials": " 5 ", "prune": "true"}, "--sampler tpe --trials 5 --prune", 5),
        ({"temperature": "1,2,4", "trials": "2"}, "--sampler tpe --trials 2", 2),
        ({"temperature": "1,2,4", "prune": "true"}, "--sampler tpe --trials 3 --prune", 3),
    ],
)
def test_trials_and_pruning_are_those_of_the_command(
    store: RunStore, texts: dict[str, str], words: str, trials: int
) -> None:
    checked = check(distilled("x").edited(**texts), store)
    assert not checked.mistakes and checked.sampled is not None and words in checked.command
    assert (checked.trials, checked.sampled.prune) == (trials, "prune" in texts)
    with COMMANDS.commands["sweep"].make_context("sweep", shlex.split(checked.command)[2:]) as parsed:
        assert (parsed.params["trials"], parsed.params["prune"]) == (trials, "prune" in texts)


async def test_a_range_shows_the_fields_of_its_trials(store: RunStore) -> None:
    app = cockpit(store, ask=engine_process.ask)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, distilled("held"))
        sampling = screen.query_one("#sampling")
        await until(pilot, lambda: bool(screen.checked.profiles))
        assert not sampling.display
        await show(pilot, screen, screen.draft.edited(temperature="1..8"))
        await until(pilot, lambda: sampling.display)
        screen.focus_field("trials")
        await shows(pilot, "trials: how many trials; default 20", "prune worse trials")
        await pilot.press("7", "tab", "space")
        await until(pilot, lambda: "--trials 7 --prune" in screen.checked.command)
        await shows(pilot, "7 trials by tpe, worse ones pruned")
        screen.focus_field("trials")
        await pilot.press("backspace", "0")
        await shows(pilot, "not a number of trials")
        await pilot.press("f5")
        await shows(pilot, "fix this first")
        assert isinstance(screen.focused, LineInput) and screen.focused.value == "0"


@pytest.mark.parametrize(
    ("texts", "field", "message"),
    [
        ({"temperature": "8..1"}, "temperature", "range is empty"),
        ({"alpha": "0.5..2"}, "alpha", "<= 1.0"),
        ({"temperature": "1..8", "equal_time": "student"}, "equal_time", "several values"),
        ({"temperature": "1..8", "trials": "0"}, "trials", "not a number of trials"),
        ({"temperature": "1..8", "trials": "many"}, "trials", "whole number"),
        ({"temperature": "1..8", "trials": "999999"}, "trials", "out of range"),
        ({"trials": "5"}, "trials", "several values"),
        ({"prune": "true"}, "prune", "several values"),
        ({"temperature": "1,2", "extra": "training.learning_rate=1"}, "extra", "is set in the field"),
        ({"temperature": "1,,2"}, "temperature", "empty value"),
        ({"temperature": "1,1.0"}, "temperature", "listed twice"),
        ({"alpha": "0.1,2"}, "alpha", "<= 1.0"),
        ({"name": "a,b"}, "name", "letters, digits"),
        ({"extra": "training.workers=1,2"}, "extra", "takes one value"),
        ({"temperature": "1,2", "equal_time": "student"}, "equal_time", "several values"),
        ({"temperature": ",".join(map(str, range(1, 70)))}, "temperature", "at most 64"),
    ],
)
def test_lists_with_a_mistake_are_reported_at_their_field(
    store: RunStore, texts: dict[str, str], field: str, message: str
) -> None:
    mistakes = check(distilled("x").edited(**texts), store).mistakes
    assert message in mistakes[field], mistakes
