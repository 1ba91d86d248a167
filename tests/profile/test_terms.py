"""The terms of the loss in a profile: how they are given, what they mean when they are not, how mistakes are worded."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from kdtui.errors import ProfileError
from kdtui.profile import Distillation, Loss, amend, dump, load
from kdtui.profile.term_tables import CwdTerm, KlTerm

LISTED = """
[distillation]
enabled = true
temperature = 2.0
alpha = 0.5

[[distillation.terms]]
kind = "kl"

[[distillation.terms]]
kind = "cwd"
temperature = 3.0

[[loss.terms]]
kind = "ce"
weight = 2.0
"""


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "listed.toml"
    path.write_text(LISTED)
    return path


def mistakes(path: Path | str, *sets: str) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        load(path, sets)
    return list(caught.value.mistakes)


def test_three_weights_are_three_terms() -> None:
    table = Distillation(temperature=5.0, logits=1.5, bg_fg=0.0)
    terms = table.active_terms("hierarchical")
    assert [(term.label, term.weight) for term in terms] == [("logits", 1.5), ("bg_fg", 0.0), ("target_nontarget", 0.3)]
    assert terms[0] == KlTerm(on="logits", weight=1.5, temperature=5.0)
    assert [term.label for term in table.active_terms("semantic")] == ["logits"]


def test_a_term_without_a_temperature_has_that_of_the_distillation(listed: Path) -> None:
    assert load(listed).distillation.active_terms("semantic") == (KlTerm(temperature=2.0), CwdTerm(temperature=3.0))


def test_terms_that_are_not_given_are_not_written() -> None:
    table = tomllib.loads(dump(load("baseline")).decode())
    assert "loss" not in table
    assert "terms" not in table["distillation"]
    assert [term.label for term in Loss().active_terms()] == ["ce", "dice"]


def test_keys_that_older_runs_lack_are_written_only_if_set() -> None:
    terms = tomllib.loads(dump(load("baseline", ['loss.terms=[{kind="ce"}, {kind="dice"}]'])).decode())["loss"]["terms"]
    assert terms == [{"kind": "ce", "weight": 1.0}, {"kind": "dice", "weight": 1.0}]
    (term,) = tomllib.loads(dump(load("baseline", ['loss.terms=[{kind="ce", class_weights=[1,2]}]'])).decode())["loss"][
        "terms"
    ]
    assert term == {"kind": "ce", "weight": 1.0, "class_weights": [1.0, 2.0]}
    table = tomllib.loads(dump(load("baseline", ['distillation.terms=[{kind="kl"}, {kind="feature"}]'])).decode())
    assert [sorted(term) for term in table["distillation"]["terms"]] == [["kind", "on", "weight"]] * 2


def test_two_logits_are_not_standardised() -> None:
    (mistake,) = mistakes("baseline", 'distillation.terms=[{kind="kl", on="bg_fg", standardise=true}]')
    assert mistake.startswith("distillation.terms[0] (--set distillation.terms=[")
    assert 'found standardise with on = "bg_fg"; allowed: only with on = "logits"' in mistake


def test_a_list_is_written_and_read_back(listed: Path, tmp_path: Path) -> None:
    profile = load(listed)
    written = tmp_path / "written.toml"
    written.write_bytes(dump(profile))
    assert load(written) == profile
    assert "logits" not in tomllib.loads(written.read_text())["distillation"]


def test_a_list_replaces_the_weights_of_the_profile_below_it(listed: Path) -> None:
    complete = load("distill-b0-from-b3")
    assert complete.distillation.terms is None
    changed = amend(complete, ['distillation.terms=[{kind="kl"}]'])
    assert changed.distillation.terms == (KlTerm(),)
    assert changed.distillation.temperature == complete.distillation.temperature


def test_a_list_beside_a_weight_is_one_mistake(listed: Path) -> None:
    (mistake,) = mistakes(listed, "distillation.bg_fg=0.5")
    assert mistake.startswith("distillation (")
    assert "found terms and bg_fg" in mistake
    (mistake,) = mistakes(listed, "distillation.logits=1.0", 'distillation.terms=[{kind="kl"}]')
    assert "found terms and logits" in mistake


def test_a_mistake_between_keys_names_the_nearest_file(listed: Path) -> None:
    child = listed.with_name("child.toml")
    child.write_text('extends = "listed"\n[distillation]\nlogits = 2.0\n')
    (mistake,) = mistakes(child)
    assert mistake.startswith(f"distillation ({child}): found terms and logits")
    (mistake,) = mistakes(listed, "distillation.logits=2.0")
    assert mistake.startswith("distillation (--set distillation.logits=2.0): ")


@pytest.mark.parametrize(
    ("setting", "key", "words"),
    [
        ('distillation.terms=[{kind="kl", on="logit"}]', "distillation.terms[0].on", "did you mean logits?"),
        ('distillation.terms=[{kind="kl"}, {kind="cwdd"}]', "distillation.terms[1].kind", "did you mean cwd?"),
        ('distillation.terms=[{kind="kl", wieght=1.0}]', "distillation.terms[0].wieght", "did you mean weight?"),
        ('distillation.terms=[{kind="kl", weight=-1}]', "distillation.terms[0].weight", "allowed: a number, >= 0.0"),
        ('distillation.terms=[{on="logits"}]', "distillation.terms[0].kind", "missing; allowed: kl, cwd"),
        ("distillation.terms=[{kind=3}]", "distillation.terms[0].kind", "found 3; allowed: text in quotes"),
        ('distillation.terms=[{kind="cwd", on=""}]', "distillation.terms[0].on", "the name of an output"),
        (
            'distillation.terms=[{kind="cwd", teacher_on=""}]',
            "distillation.terms[0].teacher_on",
            "the name of an output",
        ),
        ('distillation.terms=[{kind="cwd", on="\\u001b[31m"}]', "distillation.terms[0].on", "the name of an output"),
        ('distillation.terms=[{kind="kl", name="a b"}]', "distillation.terms[0].name", "letters, digits, _ and -"),
        ('distillation.terms=[{kind="kl", name="a\\u0000"}]', "distillation.terms[0].name", "a NUL"),
        ("distillation.terms=[3]", "distillation.terms[0]", "allowed: a table, {KEY = VALUE, …}"),
        ("distillation.terms=[]", "distillation.terms", "found []; allowed: at least one table"),
        ('loss.terms=[{kind="ce", weight=0}]', "loss.terms", "found only weights of 0"),
        ('distillation.terms=[{kind="kl", weight=0.0}]', "distillation.terms", "found only weights of 0"),
        ("distillation.terms=[{kind=kl}]", "distillation.terms", "put the whole KEY=VALUE in single quotes"),
        ("distillation.terms=kl", "distillation.terms", "allowed: a list of tables"),
        ('distillation.terms=[{kind="cwd"}, {kind="cwd"}]', "distillation.terms", "found two terms named 'cwd'"),
        ('loss.terms=[{kind="dicee"}]', "loss.terms[0].kind", "foreground; did you mean dice?"),
        ('loss.terms=[{kind="ce", class_weights="balance"}]', "loss.terms[0].class_weights", "did you mean balanced?"),
        ('loss.terms=[{kind="ce", class_weights=[1]}]', "loss.terms[0].class_weights", "one number >= 0 for each"),
        ('loss.terms=[{kind="ce", class_weights=[0,0]}]', "loss.terms[0].class_weights", "at least one of them > 0"),
        (
            'loss.terms=[{kind="ce", class_weights=[-1,2]}]',
            "loss.terms[0].class_weights[0]",
            "found -1; allowed: a number",
        ),
        ('loss.terms=[{kind="ce", label_smoothing=1.0}]', "loss.terms[0].label_smoothing", ">= 0.0, < 1.0"),
        ('loss.terms=[{kind="ce", beta=0.9}]', "loss.terms[0]", 'only with class_weights = "effective"'),
        ('loss.terms=[{kind="ohem", share=0}]', "loss.terms[0].share", "> 0.0, <= 1.0"),
        ('loss.terms=[{kind="ohem", share=1.5}]', "loss.terms[0].share", "> 0.0, <= 1.0"),
        ('loss.terms=[{kind="boundary", band=4}]', "loss.terms[0].band", "allowed: an odd number"),
        ('loss.terms=[{kind="focal", alpha=0.2, class_weights=[1,2]}]', "loss.terms[0]", "only one of both"),
        ("loss.term=[]", "loss.term", "did you mean terms?"),
        ("distillation.terms[0].weight=2", "distillation.terms[0].weight", "the whole list, distillation.terms=[…]"),
    ],
)
def test_a_mistake_in_a_list_names_its_place_and_the_nearest_spelling(setting: str, key: str, words: str) -> None:
    (mistake,) = mistakes("baseline", setting)
    assert mistake.startswith(f"{key} (--set ")
    assert words in mistake
