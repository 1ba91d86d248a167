"""What the parts of the form tell of a choice: teachers, encoders, T and α."""

from __future__ import annotations

from pathlib import Path

from kdtui.errors import TeacherError
from kdtui.tui.widgets.picker import Picker
from kdtui.tui.widgets.slider import Track
from tests.tui.new_run.form import LARGE, SMALL, form, opened, read, typed
from tests.tui.scenes import Engine, Scene, cockpit, shows, text, until


async def test_moving_the_cursor_starts_no_process_and_displays_known_facts_at_once(
    teachers: Scene, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    for name in ("one.pth", "two.pth"):
        (tmp_path / "models" / name).write_bytes(b"weights")
    engine = Engine({"inspect": {"architecture": "Unet", "encoder": "resnet50", "parameters": 32_500_000}})
    app = cockpit(teachers, ask=engine)
    async with app.run_test(size=LARGE) as pilot:
        screen = await opened(pilot)
        picker = screen.query_one("#teacher Picker", Picker)
        await pilot.press("ctrl+down", "down", "up")
        await shows(pilot, "Unet timm-efficientnet-b3")
        await pilot.press(*"models/")
        await shows(pilot, "one.pth", "two.pth")
        await pilot.press("down", "up", "down")
        await shows(pilot, "not inspected yet")
        assert not engine.asked

        await pilot.press("enter")
        await shows(pilot, "Unet resnet50", "32.50 M parameters")
        await read(pilot)
        assert engine.asked == [("inspect", str(tmp_path / "models" / "two.pth"))]
        assert screen.draft.teacher == "models/two.pth"
        # The list is that of the store again, with the picked file in it.
        assert picker.cursor_key == str(tmp_path / "models" / "two.pth")
        await pilot.press("down", "up")
        await shows(pilot, "Unet resnet50")
        assert len(engine.asked) == 1


async def test_a_folder_is_opened_and_an_unreadable_one_is_reported(teachers: Scene, tmp_path: Path) -> None:
    (tmp_path / "models" / "deep").mkdir(parents=True)
    (tmp_path / "models" / "deep" / "x.pth").write_bytes(b"")
    (tmp_path / "broken.pth").write_bytes(b"hello")
    error = TeacherError("this is no checkpoint file", found="b'hell'", hint="save it with torch.save")
    app = cockpit(teachers, ask=Engine({"inspect": error}))
    async with app.run_test(size=SMALL) as pilot:
        await opened(pilot)
        await pilot.press(*"demo-di", "enter", "tab", *"./mod")
        await shows(pilot, "models/")
        await pilot.press("enter")
        await shows(pilot, "deep/")
        await pilot.press("enter")
        await shows(pilot, "x.pth")
        await pilot.press(*"/nowhere/")
        await shows(pilot, "cannot be read")
        await pilot.press("escape")
        await shows(pilot, "b3-teacher")
        await pilot.press(*"./broken.pth")
        await shows(pilot, "not inspected yet")
        await pilot.press("enter")
        await shows(pilot, "✗ this is no checkpoint file", "save it with torch.save", "found: b'hell'")


async def test_the_costs_of_the_encoder_under_the_cursor_are_displayed(teachers: Scene) -> None:
    app = cockpit(teachers)
    async with app.run_test(size=LARGE) as pilot:
        screen = await opened(pilot)
        await pilot.press(*"demo-di", "enter", "tab", *"b3", "enter")
        await read(pilot)
        assert (screen.draft.profile, screen.draft.teacher) == ("demo-distilled", teachers.store.runs()[0].id)
        await until(pilot, lambda: screen.standing.teacher_parameters is not None)
        await pilot.press("ctrl+down", *"resnet18")
        about = screen.query_one("#student .about")
        await shows(pilot, "11.78 M")
        await pilot.press("ctrl+home")
        await until(pilot, lambda: "resnet18" in str(about.render()))
        assert "1.12x fewer parameters" in str(about.render())
        await pilot.press("escape", *"resnet34")
        await pilot.press("ctrl+home")
        # A student that is larger than its teacher is not called smaller.
        await until(pilot, lambda: "more parameters" in str(about.render()))
        await pilot.press("escape")
        await typed(pilot, "decoder", "16,16,16,8,8")
        before = form(app).checked.cost
        assert before is not None
        assert f"{before.parameters / 1e6:.2f} M" in text(app)


async def test_temperature_and_alpha_update_their_visualisations_at_once(teachers: Scene) -> None:
    app = cockpit(teachers)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot)
        await pilot.press(*"demo-di", "enter")
        await read(pilot)
        await pilot.press(*("ctrl+down",) * 5)
        assert isinstance(app.focused, Track)
        await shows(pilot, "an example pixel", "0.6910", "0.9·distill")
        await pilot.press("home", "tab", "tab", "end")
        await until(pilot, lambda: screen.draft.alpha == "1")
        await pilot.pause()
        assert "nearly one-hot" in text(app)
        assert "1·distill" in text(app)
        assert "no effect" not in text(app)

        # Without one the form says that they do nothing.
        await pilot.resize_terminal(*LARGE)
        form(app).focus_field("teacher")
        await pilot.press("minus", "enter")
        await read(pilot)
        await shows(pilot, "no effect", "TEACHER  none", "distillation.enabled=false")


async def test_a_clone_has_the_values_of_its_run_and_the_distribution_of_its_teacher(teachers: Scene) -> None:
    teacher = teachers.store.runs()[0]
    run = teachers.finished("b0-t1", teacher=teacher, temperature=1.0, alpha=0.5, horizon=7)
    app = cockpit(teachers)
    async with app.run_test(size=LARGE) as pilot:
        screen = await opened(pilot, run.id)
        assert screen.checked.ready
        own = screen.checked.own
        assert (own["temperature"], own["alpha"], own["epochs"], own["name"]) == ("1", "0.5", "7", "b0-t1")
        assert f"people/runs/{run.id}/profile.toml" in screen.checked.command
        await shows(pilot, f"like {run.id}"[:20], "1 run of 7 epochs", "this teacher's pixel", "0.6240", "0.0310")
        screen.edit(screen.draft.edited(teacher="-"))
        screen.refill()
        await shows(pilot, "an example pixel", "0.9000")
