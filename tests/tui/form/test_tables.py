"""The fields that are made from tables: of every registered kind and term, with what a package adds."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from kdtui.launch.teachers import find_teacher, recipe, student_sets
from kdtui.profile import Profile, absolute, dump, load
from kdtui.store.store import RunStore
from kdtui.tui.form import Checked, RunDraft, check
from kdtui.tui.form.tables import LISTS, PLAIN, TABLES, edited_list, registered

KINDS = [(part, kind.name) for part in (*TABLES, *LISTS) for kind in registered(part)] + [(part, "") for part in PLAIN]
every_kind = pytest.mark.parametrize(("part", "kind"), KINDS)
# A value of each type; the first that a field accepts is its value.
CANDIDATES = (
    *("0.5", "0.25", "32", "3", "5", "a", "a,b", "0,1", "1,2", "32,64", "-1"),
    *("a/{split}/{name}", "a/{split}.txt", '{train = "a"}', '{"7" = "a"}', '{"#ff0000" = "a"}'),
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDTUI_RUNS", str(tmp_path / "runs"))
    return RunStore()


def draft_of(part: str, kind: str, **texts: str) -> RunDraft:
    """A draft with one table of a kind."""
    chosen = {part: kind} if part in LISTS else {f"{part}.kind": kind} if kind else {}
    return RunDraft(**{"profile": "demo-baseline", **chosen, **texts})


def table_of(checked: Checked, part: str) -> Any:
    return next(table for table in checked.tables if table.key in (part, f"{part}[0]"))


def value_at(table: Any, key: str) -> Any:
    """The value of a key such as ``loss.terms[0].weight`` in nested tables."""
    for name in key.replace("[", ".").replace("]", "").split("."):
        table = table[int(name)] if name.isdigit() else table[name]
    return table


def filled(store: RunStore, part: str, kind: str) -> dict[str, str]:
    """The required fields of a kind, each with a text that it accepts."""
    texts: dict[str, str] = {}
    for field in table_of(check(draft_of(part, kind), store), part).fields:
        if field.required:
            texts[field.name] = next(
                text for text in CANDIDATES if field.name not in refused(store, part, kind, {**texts, field.name: text})
            )
    return texts


def refused(store: RunStore, part: str, kind: str, texts: dict[str, str]) -> dict[str, str]:
    return dict(check(draft_of(part, kind, **texts), store).mistakes)


@every_kind
def test_each_field_can_be_set_and_the_profile_that_results_loads(
    store: RunStore, tmp_path: Path, part: str, kind: str
) -> None:
    required = filled(store, part, kind)
    for field in table_of(check(draft_of(part, kind), store), part).fields[part in TABLES :]:
        assert field.help
        for text in (*field.words, *CANDIDATES):
            texts = {**required, field.name: text}
            checked = check(draft_of(part, kind, **texts), store)
            if text != field.default and field.name not in checked.mistakes:
                break
        else:
            pytest.fail(f"{field.name} accepts none of {CANDIDATES}")
        if checked.mistakes:  # it requires other keys, such as the others of a nested table
            continue
        (profile,) = checked.profiles
        assert in_file(profile, field.name) in (field.value(text), str(tmp_path / text))
        (tmp_path / "result.toml").write_bytes(dump(profile))
        assert load(tmp_path / "result.toml") == profile
        # The command starts the same run.
        assert absolute(load("demo-baseline", sets_in(checked.command))) == profile


def in_file(profile: Profile, key: str) -> Any:
    return value_at(profile.model_dump(mode="json"), key)


@every_kind
def test_a_value_that_is_not_allowed_is_reported_at_its_field(store: RunStore, part: str, kind: str) -> None:
    texts = filled(store, part, kind)
    for field in table_of(check(draft_of(part, kind), store), part).fields:
        if field.reads == "text" and not field.words:
            continue
        wrong = "[x" if field.reads in ("texts", "numbers") else "-x"
        mistakes = refused(store, part, kind, {**texts, field.name: wrong})
        if field.label != "kind":
            assert set(mistakes) == {field.name}
        assert f"found '{wrong}'" in mistakes[field.name]
        assert "--set" not in mistakes[field.name]
        assert "quotes" not in mistakes[field.name]


@pytest.mark.parametrize("part", LISTS)
def test_terms_are_added_and_removed_with_their_texts(store: RunStore, part: str) -> None:
    kinds = [kind.name for kind in registered(part)]
    draft = RunDraft(profile="demo-baseline", **{f"{part}[1].weight": "7"})
    before = check(draft, store)
    own = [table for table in before.tables if table.key.startswith(part)]
    for kind in kinds:
        checked = check(draft, store)
        draft = draft.edited(**edited_list(part, checked.tables, draft.generated, checked.own, add=kind))
    checked = check(draft, store)
    terms = [table for table in checked.tables if table.key.startswith(part)]
    assert [table.kind for table in terms] == [*(table.kind for table in own), *kinds]
    assert draft.text(f"{part}[1].weight") == "7"

    for _ in kinds:
        checked = check(draft, store)
        draft = draft.edited(**edited_list(part, checked.tables, draft.generated, checked.own, remove=len(own)))
    assert [dump(one) for one in check(draft, store).profiles] == [dump(one) for one in before.profiles]
    draft = draft.edited(**edited_list(part, checked.tables[:0], draft.generated, {}))
    assert not draft.generated
    assert check(draft, store).command == "kdtui train demo-baseline --detach"


def test_a_term_removed_in_the_middle_moves_the_texts_of_those_behind_it(store: RunStore) -> None:
    draft = RunDraft(profile="demo-baseline", **{"loss.terms": "ce,dice", "loss.terms[1].weight": "3"})
    checked = check(draft, store)
    draft = draft.edited(**edited_list("loss.terms", checked.tables, draft.generated, checked.own, remove=0))
    assert draft.generated == {"loss.terms": "dice", "loss.terms[0].weight": "3"}


def test_the_profiles_own_values_are_not_set_again(store: RunStore) -> None:
    texts = {name: text for name, text in check(RunDraft(profile="demo-baseline"), store).own.items() if text}
    generated = {name: text for name, text in texts.items() if name.startswith(("data.", "student.", "loss", "dist"))}
    assert len(generated) > 15
    checked = check(RunDraft(profile="demo-baseline", **generated), store)
    assert checked.command == "kdtui train demo-baseline --detach"


def test_a_default_of_a_table_that_the_profile_lacks_makes_the_table(store: RunStore) -> None:
    draft = RunDraft(profile="demo-distilled", **{"data.unlabelled.target": "soft"})
    checked = check(draft, store)
    assert 'data.unlabelled.target="soft"' in sets_in(checked.command)
    assert checked.own["data.unlabelled.target"] == checked.own["data.unlabelled.share"] == ""
    assert check(RunDraft(profile="demo-fewlabels-distilled"), store).own["data.unlabelled.share"] == "0.5"


def test_without_a_teacher_the_profile_has_no_images_without_labels(store: RunStore) -> None:
    draft = RunDraft(profile="demo-fewlabels-distilled", teacher="-")
    checked = check(draft, store)
    assert not checked.mistakes
    assert checked.command == "kdtui train demo-fewlabels-distilled --set distillation.enabled=false --detach"
    (profile,) = checked.profiles
    assert profile == absolute(load("demo-fewlabels-distilled", sets_in(checked.command)))
    assert profile.data.unlabelled is None
    typed = check(draft.edited(**{"data.unlabelled.share": "0.25"}), store)
    assert "only the distillation uses" in typed.mistakes["teacher"]


def test_a_key_is_not_set_in_two_places(store: RunStore) -> None:
    for extra in ("data.height=64", "loss.terms=[]", 'loss.terms=[{kind="ce"}]'):
        typed = {"data.height": "96", "loss.terms": "ce"}
        assert (
            "own field"
            in check(RunDraft(profile="demo-baseline", extra=f"'{extra}'", **typed), store).mistakes["extra"]
        )


def sets_in(command: str) -> list[str]:
    words = shlex.split(command)
    return [words[place + 1] for place, word in enumerate(words) if word == "--set"]


@pytest.mark.parametrize(
    ("kind", "teacher"),
    [(kind.name, "persons-demo-teacher" if kind.name == "roi" else "demo-teacher") for kind in registered("student")],
)
def test_a_recipe_takes_a_student_of_each_kind(store: RunStore, kind: str, teacher: str) -> None:
    run = store.create(load(teacher))
    run.best.write_bytes(b"weights")
    texts = filled(store, "student", kind)
    student = {"encoder": "resnet18"} if kind == "smp" else {"student.kind": kind}
    checked = check(RunDraft(teacher=run.id, **student, **texts), store)

    assert not checked.mistakes
    word = next(iter(student.values()))
    assert f"distill --teacher {run.id} --student {word}" in checked.command
    sets = [*student_sets(word), *sets_in(checked.command)]
    assert checked.profiles == (recipe(find_teacher(run.id, store), word, sets, named=False),)
    assert type(checked.profiles[0].student).model_fields["kind"].default == kind
