"""Fields made from tables on the form: unfolded, typed into, added and removed by keys alone."""

from __future__ import annotations

from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input

from kdtui.tui.form.tables import LISTS, TABLES, registered
from kdtui.tui.screens.new_run import NewRunScreen
from kdtui.tui.screens.new_run.sections import Section
from kdtui.tui.screens.new_run.tables import FoldTitle, TermTitle
from kdtui.tui.widgets.choices import Mistake
from kdtui.tui.widgets.picker import Picker
from tests.tui.new_run.form import SMALL, opened, read, typed, verdict
from tests.tui.scenes import Scene, cockpit, until

# With a package on the path, its kind is the last; every kind is in tests/tui/form/test_tables.py.
SOME = {part: registered(part)[-1:] for part in (*TABLES, *LISTS)}


def section_of(screen: NewRunScreen, place: str) -> Section:
    return next(section for section in screen.sections if section.owns(place))


def names(section: Section) -> set[str]:
    return {row.field.name for row in section.rows}


async def unfolded(pilot: Pilot[Any], place: str) -> Section:
    """The section of a place, unfolded by keys."""
    screen = pilot.app.screen
    assert isinstance(screen, NewRunScreen)
    section = section_of(screen, place)
    if place.startswith("student"):
        section.focus_place("weights")
        await pilot.press("down")
    else:
        section.focus_first()
    await pilot.press("enter")
    await pilot.pause()
    return section


async def choose(pilot: Pilot[Any], place: str, word: str) -> None:
    """Type the beginning of a word and accept its suggestion."""
    screen = pilot.app.screen
    assert isinstance(screen, NewRunScreen)
    screen.focus_field(place)
    await pilot.press("end", "ctrl+u", word[0], "right")
    await read(pilot)
    assert screen.draft.text(place) == word


async def test_terms_are_added_typed_into_and_removed(teachers: Scene) -> None:
    app = cockpit(teachers)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, teachers.store.runs()[0].id)
        for part in LISTS:
            section = await unfolded(pilot, part)
            own = len(section.query(TermTitle))
            for number, kind in enumerate(SOME[part], start=own):
                search = section.query_one("Picker Input", Input)
                search.value = kind.name
                screen.set_focus(search)
                await pilot.press("enter")
                await pilot.pause()
                fields = kind.within(f"{part}[{number}]")
                assert names(section) >= {field.name for field in fields}
                assert screen._focused_field() == fields[0].name
                await pilot.press("5", "down", "x")  # the first two fields of the term
                await read(pilot)
                assert screen.draft.text(fields[0].name) == "5"
                assert screen.draft.text(fields[1].name) == "x"
            kinds = [table.kind for table in screen.checked.tables if table.key.startswith(part)]
            assert kinds[own:] == [kind.name for kind in SOME[part]]
            assert f"5 {kinds[-1]}" in section.query_one(FoldTitle).text

            screen.set_focus(section.query(TermTitle).first())
            await pilot.press("delete")
            await read(pilot)
            assert screen.draft.text(part).split(",") == kinds[1:]
            assert screen.draft.text(f"{part}[{len(kinds) - 2}].weight") == "5"
            assert len([title for title in section.query(TermTitle) if title.display]) == len(kinds) - 1


async def test_a_kind_has_its_fields_and_only_those(teachers: Scene) -> None:
    app = cockpit(teachers)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, teachers.store.runs()[0].id)
        untouched = screen.draft
        for part in TABLES:
            section = await unfolded(pilot, part)
            for kind in SOME[part]:
                await choose(pilot, f"{part}.kind", kind.name)
                (table,) = [table for table in screen.checked.tables if table.key == part]
                assert table.kind == kind.name
                assert names(section) - {"encoder", "decoder", "weights"} == {field.name for field in table.fields}
                hidden = {field.name for field in kind.within(part)} - names(section)
                assert hidden <= {"student.encoder", "student.decoder_channels", "student.weights"}
                # A mistake is displayed at its field.
                numeric = next(field for field in table.fields if field.reads == "toml")
                await typed(pilot, numeric.name, "-")
                shown = [one.text for one in section.query(Mistake) if one.display]
                assert any("found '-'" in mistake for mistake in shown)
                assert numeric.name in verdict(app)
                await pilot.press("backspace")
            screen.edit(untouched)
            screen.refill()
            await read(pilot)


async def test_a_mistake_unfolds_its_section_and_has_the_focus_on_launch(teachers: Scene) -> None:
    app = cockpit(teachers)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, teachers.store.runs()[0].id)
        screen.edit(screen.draft.edited(**{"loss.terms": "ce", "loss.terms[0].weight": "-1"}))
        await read(pilot)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: screen._focused_field() == "loss.terms[0].weight")
        assert isinstance(app.focused, Input)
        assert app.focused.value == "-1"
        assert screen.query_one("#form").region.contains_region(app.focused.region)


async def test_a_network_without_encoders_hides_the_list_of_encoders(teachers: Scene) -> None:
    others = [kind.name for kind in registered("student")[1:]]
    app = cockpit(teachers)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, teachers.store.runs()[0].id)
        section = await unfolded(pilot, "student.kind")
        picker = section.query_one(Picker)
        for kind in others:
            await choose(pilot, "student.kind", kind)
            assert not picker.display
            assert screen.checked.ready or "need data with boxes" in screen.checked.mistakes["profile"]
            await pilot.press("end", "ctrl+u")
            await read(pilot)
            assert picker.display


async def test_the_form_of_a_network_with_boxes_has_the_keys_of_both_of_its_parts(teachers: Scene) -> None:
    app = cockpit(teachers)
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot)
        screen.edit(screen.draft.edited(profile="persons-demo-baseline"))
        screen.refill()
        await read(pilot)
        assert screen.checked.own["student.kind"] == "roi"
        section = await unfolded(pilot, "student.head_channels")
        fields = {row.field.key: row.field.name for row in section.rows}
        assert {"student.encoder", "student.decoder_channels", "student.weights"} <= fields.keys()
        for key, text in (("student.encoder", "resnet18"), ("student.head_channels", "24"), ("student.roi", "10,14")):
            section.focus_place(fields[key])
            await pilot.press(*text)
            await read(pilot)
        assert "--student resnet18" in screen.checked.command
        assert "--set student.head_channels=24" in screen.checked.command
        assert "allowed: mask = [10, 14] or [20, 28] or [40, 56]" in " ".join(screen.checked.mistakes.values())
