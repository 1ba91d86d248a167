"""The list of runs, by keys and by mouse."""

from __future__ import annotations

import os

from textual.widgets import Input

from kdtui.store.view_logits import FOLDER, ViewLogits, describe
from kdtui.tui.widgets.chart.line_chart import LineChart
from tests.store.test_space import ended
from tests.store.test_space import names as checkpoints
from tests.tui.home import chart, go_to, names, row, screen, status, write
from tests.tui.scenes import Scene, cockpit, lines, settled, shows, until


async def test_rows_come_newest_first_and_live_ones_move(scene: Scene) -> None:
    scene.finished("b0-alone", horizon=4, best=0.6)
    run = scene.running("b0-t4", epochs=2, horizon=20)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await shows(pilot, "> ▶ b0-t4", "● b0-t4")
        assert names(pilot) == ["b0-t4", "b0-alone"]
        assert "1▶ 1✓" in lines(app)[0] and lines(app)[0].endswith("CPU 42%  mem 6.1/16G  14:02")
        before = row(pilot, "b0-t4")
        curve = chart(pilot)
        assert " 2/20 " in before
        scene.advance(run, 3)
        await shows(pilot, " 5/20 ")
        await until(pilot, lambda: chart(pilot) != curve)
        assert row(pilot, "b0-t4") != before
        new = scene.queued("b0-t8")
        await shows(pilot, "… b0-t8", "q#1")
        assert names(pilot) == ["b0-t8", "b0-t4", "b0-alone"]
        assert screen(pilot).run_id == run.id  # the cursor stays with its run
        scene.start(new)
        await shows(pilot, "▶ b0-t8")
        await pilot.press("down")
        await shows(pilot, "loss b0-alone", "● b0-alone")


async def test_marked_runs_share_the_chart_by_images(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("c")
        assert "mark two or more runs" in status(pilot)
        await pilot.press("down", "down", "down", "space", "down", "space", "end", "space")
        await settled(pilot)
        await shows(pilot, "val mIoU 3 runs", "images", "A b0-t4", "B b0-t2", "C b3-teacher")
        assert row(pilot, "b0-t4").startswith(" A▶")
        await until(pilot, lambda: "teacher .754" in chart(pilot) and "95% .716" in chart(pilot))
        await pilot.press("space")
        await shows(pilot, "val mIoU 2 runs")
        await pilot.press("M")
        await shows(pilot, "loss 2 runs")
        assert app.board.letters == dict(zip(app.board.marked, "AB", strict=True))
        await pilot.press("escape")
        await shows(pilot, "b3-teacher", "steps")
        assert app.board.marked == []


async def test_several_runs_display_a_score_and_one_its_loss_by_default(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        alone, distilled = (next(k for k in app.board.order if k.endswith(n)) for n in ("b0-alone", "r18-from-b3"))
        await go_to(pilot, alone)
        await shows(pilot, "loss b0-alone")
        await pilot.press("space")
        await go_to(pilot, distilled)
        await pilot.press("space")
        await shows(pilot, "val mIoU 2 runs")
        await pilot.press("M")
        await shows(pilot, "loss 2 runs")
        await pilot.press("escape")
        await shows(pilot, "loss r18-from-b3")


async def test_a_message_of_one_screen_is_not_displayed_on_the_next(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        for key in ("enter", "n", "e"):
            await pilot.press("x")
            await shows(pilot, "nothing to stop")
            await pilot.press(key)
            await until(pilot, lambda: len(app.screen_stack) == 2)
            assert "nothing to stop" not in status(pilot)
            await pilot.press("escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)
            assert "nothing to stop" not in status(pilot)


async def test_an_empty_cockpit_names_the_store_and_a_prompt_names_its_keys(scene: Scene) -> None:
    app = cockpit(scene)
    async with app.run_test(size=(120, 24)) as pilot:
        await shows(pilot, f"no runs yet in {scene.store.root}")
        scene.finished("b0", horizon=2)
        await shows(pilot, "✓ b0")
        await pilot.press("t")
        await shows(pilot, "enter accepts   esc cancels")


async def test_chart_keys_work_from_the_table(scene: Scene) -> None:
    scene.finished("b0", horizon=20)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        view = pilot.app.query_one("#chart", LineChart)
        await shows(pilot, "● b0")
        whole = before = chart(pilot)
        for key in ("l", "full_stop", "z", "{", "}", "["):
            await pilot.press(key)
            assert chart(pilot) != before, key
            before = chart(pilot)
        assert view.log_y and view.smoothing > 0
        await pilot.press("l", "comma", "0")
        assert chart(pilot) == whole
        count = len(screen(pilot)._metrics())
        titles = []
        for _ in range(count):
            await pilot.press("m")
            titles.append(chart(pilot).splitlines()[1].strip("│ "))
        assert len(set(titles)) == count > 5
        assert chart(pilot) == whole


async def test_a_filter_is_applied_while_it_is_typed(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        everything = names(pilot)
        await pilot.press("slash", *"stu")
        line = app.screen.query_one("#filter", Input)
        await until(pilot, lambda: line._suggestion == "student")
        await pilot.press("tab")
        assert line.value == "student"
        await pilot.press("colon", *"res")
        await until(pilot, lambda: line._suggestion == "student:resnet18")
        await pilot.press("tab")
        await until(pilot, lambda: names(pilot) == ["r18-from-b3"])
        await pilot.press("enter")
        await shows(pilot, "1 of 16 runs", "kdtui runs --filter student:resnet18")
        assert screen(pilot).table.has_focus
        await pilot.press("slash", "end", "space", *"T>=x", "enter")
        await shows(pilot, "not a number")
        assert names(pilot) == ["r18-from-b3"] and line.has_focus  # the last one that could be read stands
        await write(pilot, "shoe:size")
        await shows(pilot, "has no field 'shoe'")
        await pilot.press("escape")
        await until(pilot, lambda: names(pilot) == everything)
        assert screen(pilot).table.has_focus and not line.display
        await pilot.press("slash")
        await write(pilot, "miou>.99")
        await pilot.press("enter")
        await shows(pilot, "no run matches 'miou>.99'; Esc clears the filter", "0 of 16 runs")
        await pilot.press("down", "x", "X", "R", "t", "delete", "y", "space", "N", "enter")
        assert len(app.screen_stack) == 1  # nothing to do it to
        await pilot.press("escape")
        await until(pilot, lambda: names(pilot) == everything)


async def test_order_by_key_and_by_a_click_on_a_title(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        newest = names(pilot)
        await pilot.press("s")
        await shows(pilot, "sorted by run, smallest first", "run▲")
        assert names(pilot) == sorted(newest)
        await pilot.press("S")
        await shows(pilot, "sorted by run, largest first", "run▼")
        assert names(pilot) == sorted(newest, reverse=True)
        title = lines(app)[1].index("mIoU")
        await pilot.click("#runs", offset=(title + 1, 0))
        await shows(pilot, "sorted by mIoU, largest first")
        assert names(pilot)[:2] == ["b3-teacher", "b0-from-b3"]
        assert set(names(pilot)[-3:]) == {"draft", "b0-t8", "b0-t16"}  # without one, last
        await pilot.click("#runs", offset=(title + 1, 0))
        await shows(pilot, "sorted by mIoU, smallest first")
        assert names(pilot)[0] in ("b0-hot", "b0-wide") and "draft" in names(pilot)[-3:]
        await pilot.click("#runs", offset=(2, 0))
        await shows(pilot, "sorted by state, smallest first")
        await pilot.press("S")
        for _ in range(20):
            if "newest first" in status(pilot):
                break
            await pilot.press("s")
        assert names(pilot) == newest
        await pilot.press("S")  # nothing to turn round
        assert names(pilot) == newest


async def test_a_click_moves_the_cursor_and_presses_keys_of_the_bar(crowd: Scene) -> None:
    app = cockpit(crowd)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.click("#runs", offset=(8, 4))
        await shows(pilot, "> ▶ b0-t4")
        bar = lines(app)[-1]
        await pilot.click("#keys", offset=(bar.index("mark"), 0))
        await until(pilot, lambda: app.board.marked == [screen(pilot).run_id])
        await pilot.click("#keys", offset=(bar.index("? help"), 0))
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await shows(pilot, "Keys of this screen first")


async def test_the_status_line_has_the_reason_why_a_run_is_queued_or_failed(crowd: Scene) -> None:
    app = cockpit(crowd)
    wanted = {
        "b0-t16": "queued: waiting for a cpu slot, position 2",
        "b0-quiet": "running: no events for 14 min",
        "b0-night": "lost: the processes exited without reporting a result",
        "b0-wide": "failed: rank 0 killed by SIGKILL · next: `kdtui logs RUN` shows its output",
        "b0-hot": "failed: the loss is no longer a number · next: a lower learning rate",
        "b3-teacher": "20260821-143000-b3-teacher  #teacher",
    }
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        for run_id in list(app.board.order):
            said = wanted.get(app.board.rows[run_id].name)
            if said is not None:
                await go_to(pilot, run_id)
                await shows(pilot, said)
                assert said in status(pilot)


async def test_a_run_deleted_under_the_cursor_or_a_dialog(scene: Scene) -> None:
    first, second, third = (scene.finished(f"run-{n}", horizon=2) for n in range(3))
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("down")
        assert screen(pilot).run_id == second.id
        scene.store.remove(second)
        await until(pilot, lambda: names(pilot) == ["run-2", "run-0"])
        assert screen(pilot).run_id == first.id
        await settled(pilot)
        await shows(pilot, "● run-0")
        await pilot.press("delete")
        await shows(pilot, "Delete run-0?")
        scene.store.remove(first)
        await until(pilot, lambda: first.id not in app.board.rows)
        await pilot.press("y")
        await shows(pilot, "could not be removed")
        await pilot.press("t")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        scene.store.remove(third)
        await until(pilot, lambda: third.id not in app.board.rows)
        await pilot.press(*"gone", "enter")
        await shows(pilot, "no runs yet")
        assert not third.path.exists()


async def test_a_damaged_folder_and_half_written_events_are_shown_as_such(scene: Scene) -> None:
    scene.damaged("b0-broken")
    run = scene.running("b0-half", epochs=2, horizon=20)
    with run.events_path.open("ab") as file:
        file.write(b'not an event\n\xff\xfe\n{"v":1,"kind":"measured","time":"soon"}\n{"v":1,"kind":"meas')
    app = cockpit(scene)
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await shows(pilot, "b0-broken", " 2/20 ")
        await pilot.press("end")
        await shows(pilot, "profile.toml is damaged; run.json is damaged")
        await pilot.press("R", "enter")
        await shows(pilot, "profile.toml is damaged")
        scene.advance(run, 1)
        await shows(pilot, " 3/20 ")
        aside = run.events_path.rename(run.path / "aside")
        os.mkfifo(run.events_path)
        await pilot.press("home")
        await shows(pilot, "events.jsonl cannot be read: it is a pipe")
        await until(pilot, lambda: "it is a pipe" in chart(pilot))
        run.events_path.unlink()
        aside.rename(run.events_path)
        await shows(pilot, "▶ b0-half", " 3/20 ")
        await until(pilot, lambda: "cannot be read" not in chart(pilot))


async def test_cached_teacher_logits_are_listed_and_removed_after_confirmation(scene: Scene) -> None:
    scene.finished("run", horizon=2)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("K")
        await shows(pilot, "no cached teacher logits")
        folder = scene.store.root / FOLDER / "key"
        describe(folder, {"encoder": "resnet18"})
        file = ViewLogits.make(folder / "view-000000.logits", 3, 2**20)
        assert file is not None
        file.close()
        await pilot.press("K")
        await shows(pilot, "3.0 MiB, 1 view: resnet18")
        await pilot.press("n", "K")
        await shows(pilot, "Remove 3.0 MiB of cached teacher logits?")
        assert folder.exists()
        await pilot.press("y")
        await shows(pilot, "3.0 MiB of teacher logits removed")
        assert not folder.exists()


async def test_training_states_are_removed_after_confirmation(scene: Scene) -> None:
    run = ended(scene.store, "done")
    other = ended(scene.store, "other")
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("F")
        await shows(pilot, "of training states?", run.id, other.id, "kdtui gc")
        await pilot.press("n")
        assert "last.pth" in checkpoints(run)
        await pilot.press("end", "space", "F")  # the oldest run alone
        await shows(pilot, "of training states?", f"kdtui gc {run.id}")
        await pilot.press("y")
        await shows(pilot, "of training states removed")
        assert checkpoints(run) == {"best_model.pth"} and "last.pth" in checkpoints(other)
        await pilot.press("F")
        await shows(pilot, "no training states to remove")
