"""Methods of distillation: files with terms, laid over any profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtui.errors import UsageError
from kdtui.profile import load
from kdtui.profile.methods import find_method, method_names, methods
from kdtui.profile.term_tables import DISTILLATION_TERMS

SHIPPED = method_names()
OWN = 'description = "mine"\n[[distillation.terms]]\nkind = "cwd"\nweight = 5.0\n'


def test_every_built_in_term_is_in_a_method_that_says_when_it_helps() -> None:
    listed = methods()
    kinds = {table.model_fields["kind"].default for table in DISTILLATION_TERMS}
    assert {kind for method in listed for kind in method.kinds} == kinds
    for method in listed:
        assert method.shipped
        assert 20 < len(method.description) < 120
        assert ": " in method.description
    assert {"kl", "cwd", "feature", "cwd+feature", "dist", "edge", "relation", "mgd", "reliable-kl"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("profile", ["baseline", "hierarchical-b0", "distill-b0-from-b3"])
def test_a_method_replaces_the_terms_of_a_profile_and_nothing_else(profile: str, name: str) -> None:
    before, after = load(profile), load(profile, find_method(name).sets())
    assert after.distillation.enabled
    assert [term.kind for term in after.distillation.terms or ()] == find_method(name).kinds
    changes = {"distillation": before.distillation}
    assert after.model_copy(update=changes) == before
    assert after.distillation.temperature == before.distillation.temperature


def test_later_settings_change_what_a_method_sets() -> None:
    sets = [*find_method("cwd").sets(), "distillation.alpha=0.25", 'distillation.terms=[{kind="kl"}]']
    assert [term.kind for term in load("baseline", sets).distillation.terms or ()] == ["kl"]


def test_an_unknown_method_lists_what_exists() -> None:
    with pytest.raises(UsageError) as caught:
        find_method("cdw")
    assert caught.value.allowed == ", ".join(SHIPPED)
    assert caught.value.hint == "did you mean cwd?"
    with pytest.raises(UsageError) as caught:
        find_method("../kl")
    assert caught.value.found == "../kl"


def test_methods_of_the_working_folder_come_first(tmp_path: Path) -> None:
    for folder in ("methods", "profiles/methods"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "methods" / "cwd.toml").write_text(OWN)
    (tmp_path / "profiles" / "methods" / "mine.toml").write_text(OWN)
    assert method_names(tmp_path) == sorted([*SHIPPED, "mine"])
    for name in ("cwd", "mine"):
        method = find_method(name, tmp_path)
        assert (method.shipped, method.description, method.terms) == (False, "mine", ({"kind": "cwd", "weight": 5.0},))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (OWN + "\n[training]\nepochs = 3\n", "training"),
        ("[distillation]\nalpha = 0.5\n", "distillation.alpha"),
        ("[distillation]\nterms = 3\n", "no list of terms"),
        ("distillation = 3\n", "distillation"),
        ("no TOML", "Expected '=' after a key"),
        ("description = 3\n" + OWN.partition("\n")[2], "description"),
    ],
)
def test_a_file_that_is_not_a_method_is_named(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "methods").mkdir()
    path = tmp_path / "methods" / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        find_method("mine", tmp_path)
    assert caught.value.where == str(path)
    assert found in (caught.value.found or "")
    (listed,) = [method for method in methods(tmp_path) if method.name == "mine"]
    assert listed.description in ("(not a method)", "(the file of a method cannot be read)")
