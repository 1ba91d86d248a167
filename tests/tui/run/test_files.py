from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.geometry import Size as Room

from kdtui import catalog
from kdtui.compare.measured import conditions, quantities
from kdtui.errors import KdtuiError, RunNotFound, UsageError
from kdtui.palette import former_colours
from kdtui.store.run import Run
from kdtui.store.state import RunSummary
from kdtui.tui.screens.run.files import RunFiles, Snapshot, read_files
from kdtui.tui.screens.run.logs import LOGS, FilesRead, FilesSource, LogRead, LogsSource
from kdtui.tui.screens.run.partner import Partner, beside, find, partner
from kdtui.tui.screens.run.predictions import (
    PARTS,
    Gallery,
    PictureRequest,
    legend_colours,
    legend_pages,
    read_gallery,
    split,
)
from kdtui.tui.screens.run.settings import difference_lines, differing, profile_lines
from kdtui.tui.views.compression import Measurements
from tests.tui.pictures import draw_epoch, picture
from tests.tui.scenes import PARAMETERS, Scene
from tests.waiting import in_time


def cost(encoder: str) -> catalog.NetworkCost:
    found = catalog.cost(encoder, out_channels=4, height=96, width=64)
    assert found is not None
    return found


def known(scene: Scene, run: Run) -> Snapshot:
    row = scene.store.summary(run)
    return Snapshot(row.parameters, row.teacher_checkpoint, row.teacher_parameters)


# files


def test_macs_come_from_the_catalog_for_networks_of_the_same_size(scene: Scene) -> None:
    teacher = scene.finished("b3", encoder="timm-efficientnet-b3")
    files = read_files(
        scene.finished("b0", teacher=teacher),
        Snapshot(PARAMETERS["timm-efficientnet-b0"], str(teacher.best), PARAMETERS["timm-efficientnet-b3"]),
    )
    assert files.student.macs == cost("timm-efficientnet-b0").macs
    assert files.teacher is not None and files.teacher.macs == cost("timm-efficientnet-b3").macs
    assert files.teacher.checkpoint == len(b"weights") and files.comparable
    assert files.checkpoints == {"best_model.pth": len(b"weights")} and files.disk_bytes == len(b"weights")
    assert files.trouble == "" and files.text.startswith("name = ")


def test_a_network_with_another_size_than_in_the_catalog_has_no_macs(scene: Scene) -> None:
    run = scene.finished("b0")
    assert read_files(run, Snapshot(PARAMETERS["timm-efficientnet-b0"] + 1)).student.macs is None
    # 21 classes instead of 4 channels: the head alone is other
    head = 17 * (9 * 16 + 1)
    assert read_files(run, Snapshot(PARAMETERS["timm-efficientnet-b0"] + head)).student.macs is not None


def test_costs_of_a_foreign_teacher_use_the_network_detected_by_the_engine(scene: Scene, tmp_path: Path) -> None:
    checkpoint = tmp_path / "foreign.pth"
    checkpoint.write_bytes(b"12345")
    run = scene.finished("b0")
    parameters = cost("resnet50").parameters
    files = read_files(run, Snapshot(None, str(checkpoint), parameters, ("Unet", "resnet50")))
    assert files.teacher is not None and files.teacher.macs == cost("resnet50").macs
    assert files.teacher.checkpoint == 5
    assert not files.comparable
    unknown = read_files(run, Snapshot(None, str(checkpoint), parameters)).teacher
    assert unknown is not None and unknown.macs is None


@pytest.mark.parametrize(
    "profile",
    [
        "",
        "half = [",
        "student = 3",
        "[student]\nencoder = 7\n[data]\nheight = 96\nwidth = 64",
        '[student]\nencoder = "no-such"\n[data]\nheight = 96\nwidth = 64',
        '[student]\nencoder = "resnet18"\ndecoder_channels = ["a"]\n[data]\nheight = 96\nwidth = 64',
        '[student]\nencoder = "resnet18"\ndecoder_channels = [1, 2]\n[data]\nheight = 96\nwidth = 64',
        '[student]\nencoder = "resnet18"\nencoder_depth = true\n[data]\nheight = 96\nwidth = 64',
        '[student]\nencoder = "resnet18"\n[data]\nheight = "tall"\nwidth = 64',
        '[student]\nencoder = "resnet18"\narchitecture = "FPN"\n[data]\nheight = 96\nwidth = 64',
    ],
)
def test_damaged_profiles_are_reported_or_left_out(scene: Scene, profile: str) -> None:
    run = scene.finished("b0")
    run.profile_path.write_text(profile, encoding="utf-8")
    files = read_files(run, Snapshot(100, "/nowhere/x.pth", 200, ("Unet", "no-such")))
    assert files.student.macs is None
    assert files.teacher is not None and files.teacher.macs is None and files.teacher.checkpoint is None
    assert bool(files.trouble) == (profile == "half = [")


def test_a_deleted_folder_is_reported(scene: Scene) -> None:
    files = read_files(Run(scene.store.root / "20260101-000000-gone"), Snapshot())
    assert "cannot be read" in files.trouble and files.profile == {}


def test_measurements_are_read_as_the_command_wrote_them(scene: Scene) -> None:
    run = scene.finished("b0", teacher=scene.finished("b3"))
    assert read_files(run, Snapshot()).measured == Measurements()
    found = scene.measured(run)
    read = read_files(run, Snapshot()).measured
    assert read.quantities == tuple(quantities(found)) and read.taught and not read.trouble
    assert read.setup == conditions(found["setup"]) and not read.noisy
    scene.measured(run, spread=0.4)
    assert read_files(run, Snapshot()).measured.noisy


@pytest.mark.parametrize(
    "written",
    [
        "{",
        "[1]",
        '{"student": 1}',
        '{"student": {}, "teacher": null, "ratio": null}',
        '{"student": {"parameters": "many"}, "teacher": null, "ratio": null, "setup": {}}',
        '{"student": {"latency": {"torch": {"1": {}}}}, "teacher": null, "ratio": null, "setup": {}}',
    ],
)
def test_damaged_measurements_are_reported_and_everything_else_is_displayed(scene: Scene, written: str) -> None:
    run = scene.finished("b0")
    run.measurements_path.write_text(written, encoding="utf-8")
    files = read_files(run, Snapshot())
    assert files.measured.trouble and not files.measured.quantities
    assert files.trouble == "" and files.student.checkpoint is not None


def test_sources_post_what_is_new_and_nothing_else(scene: Scene) -> None:
    run = scene.running("b0", epochs=2)
    posted: list[Any] = []
    files = FilesSource(run, posted.append)
    logs = LogsSource(run, posted.append, 0.5)
    for source in (files, logs, files, logs):
        assert list(source.poll()) == []
    assert [type(message) for message in posted] == [FilesRead, LogRead]
    assert posted[1].name == LOGS[0] and posted[1].text.startswith("epoch 1 ")
    run.worker_log.write_text("printed\n", encoding="utf-8")
    scene.advance(run)
    run.best.write_bytes(b"123")
    list(logs.poll())
    list(files.poll())
    assert [getattr(message, "text", "") for message in posted[2:]][:2] == [posted[2].text, "printed\n"]
    assert posted[2].text.startswith("epoch 3 ") and not posted[2].fresh
    assert isinstance(posted[4], FilesRead) and posted[4].files.student.checkpoint == 3


def test_an_unreadable_log_is_reported_once(scene: Scene) -> None:
    run = scene.finished("b0")
    run.training_log.unlink()
    run.training_log.mkdir()
    posted: list[LogRead] = []
    logs = LogsSource(run, posted.append, 0.5)  # type: ignore[arg-type]
    list(logs.poll())
    list(logs.poll())
    assert ["cannot be read" in message.trouble for message in posted] == [True]


# differences


def rows(scene: Scene) -> dict[str, RunSummary]:
    return {row.id: row for row in scene.store.summaries()}


def profile(run: Run) -> dict[str, Any]:
    return run.profile_table()


def test_distilled_runs_and_their_matched_baselines_find_each_other(scene: Scene) -> None:
    teacher = scene.finished("b3", encoder="timm-efficientnet-b3")
    baseline = scene.finished("alone")
    scene.finished("other-seed", seed=1)
    scene.finished("longer", horizon=90)
    student = scene.finished("b0", teacher=teacher)
    scene.damaged("broken")
    found = rows(scene)
    one = partner(found[student.id], profile(student), found.values(), lambda: False)
    assert one is not None and one.run_id == baseline.id and one.profile == profile(baseline)
    other = partner(found[baseline.id], profile(baseline), found.values(), lambda: False)
    assert other is not None and other.run_id == student.id
    assert partner(found[teacher.id], profile(teacher), found.values(), lambda: False) is None
    assert partner(found[student.id], profile(student), found.values(), lambda: True) is None


def test_differences_include_false_and_zero_and_leave_out_labels() -> None:
    own = {"name": "a", "data": {"views": 0, "x": False}, "only": 1, "same": [1]}
    other = {"name": "b", "data": {"views": False, "x": 0}, "same": [1]}
    assert differing(own, other) == [("data.views", 0, False), ("data.x", False, 0), ("only", 1, None)]


@pytest.mark.parametrize("room", [53, 77, 118])
def test_differences_fit_their_width(room: int) -> None:
    own = {"teacher": {"checkpoint": "/very/long" * 20 + "/best_model.pth"}, "distillation": {"alpha": 0}}
    lines = [
        "".join(part for part, _ in line) for line in difference_lines(own, Partner("other", "chosen", {}), True, room)
    ]
    assert all(len(line) <= room for line in lines[1:])
    assert any("model.pth" in line for line in lines) and any(" 0 " in line for line in lines)


def test_without_another_run_a_hint_is_displayed() -> None:
    told = "".join(part for line in difference_lines({}, None, True, 80) for part, _ in line)
    assert "press o to choose" in told
    broken = difference_lines({}, Partner("x", "chosen", {}, "profile.toml is damaged"), True, 80)
    assert any("damaged" in part for line in broken for part, _ in line)


def test_another_run_is_found_by_id_name_or_prefix(scene: Scene) -> None:
    own, other = scene.finished("a"), scene.finished("b")
    scene.finished("twin")
    scene.finished("twin")
    found = rows(scene)
    order = sorted(found, reverse=True)
    assert find(other.id, own.id, found, order) == other.id
    assert find(" b ", own.id, found, order) == other.id
    assert find(other.id[:14], own.id, found, order) == other.id
    for text, error in (("no-such-run", RunNotFound), ("", RunNotFound), ("a", UsageError), ("twin", KdtuiError)):
        with pytest.raises(error):
            find(text, own.id, found, order)


def test_a_run_with_a_damaged_profile_can_be_chosen_for_comparison(scene: Scene) -> None:
    assert "damaged" in beside(scene.damaged("x"), "chosen").trouble


def test_differing_lines_of_the_profile_are_highlighted() -> None:
    text = 'seed = 0\nlist = [\n    1,\n]\n\n[data]\nseed = 1\n\n[data.train]\nimages = "a"\n'
    lines = profile_lines(text, ["data.seed", "data.train.images"])
    assert [line[-1][0] for line in lines] == text.splitlines()
    assert [line[-1][0] for line in lines if line[-1][1] == "warn"] == ["seed = 1", 'images = "a"']


# pictures


@pytest.mark.parametrize("parts", [PARTS, tuple(part for part in PARTS if part != "teacher")])
def test_a_picture_is_split_into_its_parts(parts: tuple[str, ...]) -> None:
    tiles = split(picture(len(parts)))
    assert tuple(tile.label for tile in tiles) == parts
    assert {tile.image.size for tile in tiles} == {(16, 12)}
    assert len({tile.image.getpixel((8, 6)) for tile in tiles}) == len(parts)


def test_another_layout_is_one_part(tmp_path: Path) -> None:
    (tile,) = split(picture(1))
    assert (tile.label, tile.image.size) == ("picture", (16, 12))


def test_the_newest_epoch_is_displayed_unless_another_is_requested(scene: Scene) -> None:
    run = scene.finished("b0")
    room = Room(78, 17)
    assert read_gallery(run, PictureRequest(room=room)) == Gallery()
    for epoch in (2, 11):
        draw_epoch(run, epoch, 3)
    newest = read_gallery(run, PictureRequest(room=room))
    assert (newest.epochs, newest.epoch, newest.count, newest.picture, newest.parts) == ((2, 11), 11, 3, 0, PARTS)
    assert [tile.label for tile in newest.drawn] == [*PARTS]
    one = read_gallery(run, PictureRequest(epoch=2, picture=4, part="student", room=room))
    assert (one.epoch, one.picture, [tile.label for tile in one.drawn]) == (2, 1, ["student"])
    assert one.drawn[0].width > newest.drawn[0].width
    assert read_gallery(run, PictureRequest(epoch=7, part="gone", room=room)) == newest
    (run.visualizations / "epoch_0012").mkdir()
    assert read_gallery(run, PictureRequest(room=room)).count == 0


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n" + b"half", b"text"])
def test_a_half_written_picture_is_reported(scene: Scene, data: bytes) -> None:
    run = scene.finished("b0")
    draw_epoch(run, 1, 1)
    next(run.visualization(1).iterdir()).write_bytes(data)
    broken = read_gallery(run, PictureRequest(room=Room(78, 17)))
    assert "picture cannot be read" in broken.trouble
    assert (broken.count, broken.picture, broken.drawn) == (1, 0, ())


@pytest.mark.parametrize("name", ["profile.toml", "measurements.json", "picture"])
def test_a_pipe_instead_of_a_file_of_a_run_is_reported(scene: Scene, name: str) -> None:
    run = scene.finished("b0")
    draw_epoch(run, 1, 1)
    path = next(run.visualization(1).iterdir()) if name == "picture" else run.path / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    files, gallery = in_time(
        lambda: (read_files(run, Snapshot()), read_gallery(run, PictureRequest(room=Room(78, 17))))
    )
    assert "it is a pipe, not a file" in files.trouble + files.measured.trouble + gallery.trouble


def test_a_truncated_picture_says_so(scene: Scene) -> None:
    run = scene.finished("b0")
    draw_epoch(run, 1, 1)
    file = next(run.visualization(1).iterdir())
    file.write_bytes(file.read_bytes()[:-30])
    broken = read_gallery(run, PictureRequest(room=Room(78, 17)))
    assert "picture cannot be read" in broken.trouble
    assert (broken.count, broken.picture, broken.drawn) == (1, 0, ())


def test_the_legend_has_the_colours_of_the_run_or_those_of_old_versions() -> None:
    names = ["road", "car"]
    assert legend_colours(names, ["#102030", "#aabbcc"]) == [("road", (16, 32, 48)), ("car", (170, 187, 204))]
    old = list(zip(names, former_colours(2), strict=True))
    assert old[0] == ("road", (0, 0, 0))
    for odd in (None, [], ["#102030"], ["#102030", 7], ["#102030", "[red]"], "#1", {"a": 1}):
        assert legend_colours(names, odd) == old


@given(names=st.lists(st.text("abcdefg ", min_size=1, max_size=30), min_size=1, max_size=30), room=st.integers(0, 200))
def test_every_class_is_on_one_page_of_the_legend_and_fits(names: list[str], room: int) -> None:
    pages = legend_pages(names, room)
    assert [at for page in pages for at in page] == [*range(len(names))]
    assert all(pages)
    for page in pages:
        shown = "masks: " + "".join(f"▐██▌ {names[at]}  " for at in page)
        shown += (f"k {len(names) - len(page)} more  " if len(pages) > 1 else "") + "██ student differs"
        assert len(shown) <= room or len(page) == 1


def test_known_facts_come_from_the_summary(scene: Scene) -> None:
    teacher = scene.finished("b3", encoder="timm-efficientnet-b3")
    run = scene.running("b0", teacher=teacher)
    files = read_files(run, known(scene, run))
    assert isinstance(files, RunFiles) and files.teacher is not None
    assert replace(files.student, parameters=None).macs == files.student.macs
