"""What is typed becomes profiles, mistakes under their fields, and a command that does the same."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from kdtui.cli.app import app
from kdtui.profile import dump, load
from kdtui.profile.matched import baseline_of
from kdtui.profile.methods import methods
from kdtui.store.store import RunStore
from kdtui.tui.form import ALONE, PLACES, RunDraft, check
from kdtui.tui.form.mistakes import GENERAL
from tests.launch.test_equal_time import trained

# An engine that passes every check and repeats the profile that it was asked about.
ECHO = """
import json, sys
from pathlib import Path
text = Path(sys.argv[2]).read_text(encoding="utf-8")
print(json.dumps({"checks": [{"name": "profile", "ok": True, "message": text}]}))
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """A store with a run that may teach, a profile of one's own, and a file that is no run's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDTUI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KDTUI_ENGINE", shlex.join([sys.executable, "-S", "-c", ECHO]))
    store = RunStore()
    run = store.create(load("demo-teacher"))
    run.best.write_bytes(b"weights")
    (tmp_path / "other.pth").write_bytes(b"weights")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "own.toml").write_text(
        'extends = "demo-distilled"\nseed = 3\n[teacher]\ncheckpoint = "other.pth"\n', encoding="utf-8"
    )
    return store


def dry_run(command: str) -> Any:
    """What the command line says of the runs that it would start for this command."""
    words = [word for word in shlex.split(command)[1:] if word != "--detach"]
    result = CliRunner().invoke(app, [*words, "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def planned(command: str) -> list[bytes]:
    """The profiles that the command line would start for this command."""
    return [
        check["message"].encode()
        for run in dry_run(command)["runs"]
        for check in run["checks"]
        if check["name"] == "profile"
    ]


numbers = st.one_of(
    st.just(""),
    st.floats(0.5, 99, allow_nan=False).map(repr),
    st.integers(1, 9).map(str),
    st.just("4.0"),
    st.just(".5"),
)
names = st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,9}", fullmatch=True))
drafts = st.builds(
    RunDraft,
    profile=st.sampled_from(["", "own", "demo-distilled", "demo-baseline", "profiles/own.toml"]),
    teacher=st.sampled_from(["demo-teacher", "latest", "other.pth", "./other.pth"]),
    encoder=st.sampled_from(["resnet18", "tu-mobilenetv3_small_100"]),
    method=st.sampled_from(["", "cwd", "cwd+feature"]),
    decoder=st.sampled_from(["", "64,32,32,16,16", "[32, 16, 16, 8, 8]"]),
    temperature=numbers,
    alpha=st.sampled_from(["", "0", "1", "0.9", ".25", "1e-3", " 0.5 "]),
    epochs=st.sampled_from(["", "1", "10", "007"]),
    batch_size=st.sampled_from(["", "16", "8"]),
    learning_rate=st.sampled_from(["", "0.002", "2e-3", "1e-5", "1"]),
    seeds=st.sampled_from(["", "0", "3"]),
    precision=st.sampled_from(["", "fp32", "auto"]),
    accelerator=st.sampled_from(["", "cpu"]),
    devices=st.sampled_from(["", "2"]),
    name=names,
    tags=st.sampled_from(["", "a", "a, b=c  d"]),
    extra=st.sampled_from(
        ["", "training.warmup=0.1", "--set training.threads=1 --set 'description=\"a b\"'", "data.augmentation=none"]
    ),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draft=drafts)
def test_the_command_plans_what_the_form_would_start(store: RunStore, draft: RunDraft) -> None:
    if not draft.profile and draft.teacher.endswith(".pth"):  # whose data is unknown
        draft = draft.edited(teacher="demo-teacher")
    checked = check(draft, store)

    assert not checked.mistakes
    assert [dump(profile) for profile in checked.profiles] == planned(checked.command)


def test_a_method_sets_the_terms_and_is_recognised_by_them(store: RunStore) -> None:
    for method in methods():
        checked = check(RunDraft(profile="own", method=method.name), store)
        assert checked.command == f"kdtui train own --method {method.name} --detach"
        assert [term.kind for term in checked.profiles[0].distillation.terms or ()] == method.kinds
        assert checked.method == method.name
        assert checked.profiles == check(RunDraft(profile="own", extra=shlex.join(method.sets())), store).profiles

    knobs = {"distillation.terms[0].weight": "5"}
    for draft in (
        RunDraft(profile="own", method="cwd", **knobs),
        RunDraft(profile="demo-baseline", teacher="latest", method="cwd+feature", **knobs),
        RunDraft(teacher="latest", encoder="resnet18", method="kl", **knobs),
    ):
        changed = check(draft, store)
        assert changed.method == ""
        assert [dump(profile) for profile in changed.profiles] == planned(changed.command)
        assert (changed.profiles[0].distillation.terms or ())[0].weight == 5
        assert f"--method {draft.method} " in changed.command
    assert check(RunDraft(profile="demo-baseline", method="cwd"), store).mistakes.keys() == {"teacher"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[distillation.terms", "cannot be read"),
        ("[training]\nepochs = 3\n", "not a method"),
        ('[[distillation.terms]]\nkind = "kl"\nweight = -1\n', "distillation.terms[0].weight: found -1"),
        ('[[distillation.terms]]\nkind = "lk"\n', "distillation.terms[0].kind: found 'lk'"),
        ("[[distillation.terms]]\nweight = 1\n", "distillation.terms[0]"),
    ],
)
def test_a_broken_method_is_reported_at_its_field(store: RunStore, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "mine.toml").write_text(content, encoding="utf-8")
    checked = check(RunDraft(profile="own", method="mine"), store)

    assert message in checked.mistakes["method"]
    assert checked.mistakes.keys() == {"method"}
    assert "mine" in {method.name for method in checked.methods}
    assert checked.own["epochs"]  # what the form displays otherwise stays
    assert "--method mine" in checked.command


def test_runs_without_teacher_and_clones_have_commands(store: RunStore) -> None:
    run = store.find("latest")
    for draft in (
        RunDraft(profile="own", teacher=ALONE),
        RunDraft(profile="demo-baseline", teacher=ALONE),
        RunDraft(clone=run.id, epochs="3"),
        RunDraft(clone=run.id, teacher="latest", name="again"),
    ):
        checked = check(draft, store)

        assert checked.ready
        assert [dump(profile) for profile in checked.profiles] == planned(checked.command)
        assert checked.distils == bool(draft.teacher not in ("", ALONE))


def test_the_command_has_only_differences_from_the_profile(store: RunStore) -> None:
    own = check(RunDraft(profile="own"), store).own
    texts = {name: own[name] for name in own if name not in ("teacher", "tags")}

    retyped = check(RunDraft(profile="own", teacher="./other.pth", **texts), store)

    assert retyped.command == "kdtui train own --detach"
    assert retyped.ready
    assert retyped.profiles == check(RunDraft(profile="own"), store).profiles


@pytest.mark.parametrize(
    ("texts", "runs", "options"),
    [
        ({"seeds": "3"}, 1, ""),
        ({"seeds": "4"}, 1, "--seed 4 "),
        ({"seeds": "3, 4,5"}, 3, "--seeds 3,4,5 "),
        ({"baseline": "true"}, 2, "--with-baseline "),
        ({"seeds": "0-2", "baseline": "true", "tags": "a"}, 6, "--seeds 0-2 --with-baseline --tag a "),
    ],
)
def test_seeds_and_baselines_are_the_runs_of_one_command(
    store: RunStore, texts: dict[str, str], runs: int, options: str
) -> None:
    checked = check(RunDraft(profile="own", **texts), store)

    assert checked.command == f"kdtui train own {options}--detach"
    told = dry_run(checked.command)
    assert [(run["name"], run["seed"]) for run in told["runs"]] == [(one.name, one.seed) for one in checked.profiles]
    assert len(checked.profiles) == runs
    if runs > 1:
        assert told["groups"] == list(dict.fromkeys(run.group for run in checked.group.runs))


def test_baselines_with_equal_time_have_a_field(store: RunStore) -> None:
    draft = RunDraft(profile="own", equal_time="student")
    unknown = check(draft, store)
    assert "the time of an epoch of own is not known" in unknown.mistakes["equal_time"]
    assert unknown.command == "kdtui train own --equal-time student --detach"

    [profile] = check(RunDraft(profile="own"), store).profiles
    trained(store, profile, 100.0)
    trained(store, baseline_of(profile), 50.0)
    checked = check(draft, store)
    assert not checked.mistakes
    [baseline] = checked.profiles  # the distilled run is reused
    assert baseline.training.epochs == 2 * profile.training.epochs
    assert [run["name"] for run in dry_run(checked.command)["runs"]] == [baseline.name]

    trained(store, baseline, 100.0)
    assert "all runs exist already" in check(draft, store).mistakes["equal_time"]


def test_every_mistake_is_displayed_at_its_field_at_once(store: RunStore) -> None:
    checked = check(
        RunDraft(
            profile="demo-distilled",
            method="nothing",
            teacher="no-such-run",
            encoder="resnet19",
            decoder="64,x",
            temperature="hot",
            alpha="1.5",
            epochs="0",
            batch_size="two",
            learning_rate="-1",
            seeds="0,-1,x",
            trials="few",
            precision="fp8",
            accelerator="tpu",
            devices="0",
            name="a b",
            tags="fine öd",
            extra="training.warmup=2 training.nothing=1",
        ),
        store,
    )

    assert set(PLACES) - {*checked.mistakes} == {GENERAL, "profile", "baseline", "equal_time", "prune", "weights"}
    assert [place for place in PLACES if place in checked.mistakes] == list(checked.mistakes)
    assert not checked.profiles
    assert "resnet18" in checked.mistakes["encoder"]
    assert "a number" in checked.mistakes["temperature"]
    assert "-1" in checked.mistakes["seeds"]
    assert "training.warmup" in checked.mistakes["extra"]
    assert "training.nothing" in checked.mistakes["extra"]
    # What is being typed is shown as a command all the same.
    assert "-T hot" in checked.command
    assert "--epochs 0" in checked.command


@pytest.mark.parametrize(
    ("draft", "field"),
    [
        (RunDraft(), "teacher"),
        (RunDraft(teacher="demo-teacher"), "encoder"),
        (RunDraft(teacher="other.pth", encoder="resnet18"), "teacher"),
        (RunDraft(profile="nothing"), "profile"),
        (RunDraft(clone="no-such-run"), "profile"),
        (RunDraft(profile="demo-distilled"), "teacher"),
        (RunDraft(profile="demo-distilled", epochs="x"), "teacher"),
        (RunDraft(profile="own", batch_size="15", devices="2"), "batch_size"),
        (RunDraft(profile="own", decoder="64,32"), "decoder"),
        (RunDraft(profile="own", weights="run:nothing"), "weights"),
        (RunDraft(profile="own", name="a..b"), "name"),
        (RunDraft(profile="own", seeds="1,,2"), "seeds"),
        (RunDraft(profile="own", seeds="1,1"), "seeds"),
        (RunDraft(profile="demo-baseline", baseline="true"), "baseline"),
        (RunDraft(profile="demo-baseline", equal_time="total"), "equal_time"),
        (RunDraft(profile="own", extra="training.epochs=3"), "extra"),
        (RunDraft(profile="own", extra="no-equals"), "extra"),
        (RunDraft(profile="own", extra="a='b"), "extra"),
        (RunDraft(profile="own", extra="student.encoder_depth=2"), "extra"),
        (RunDraft(profile="own", extra="student.encoder_depth=3"), "decoder"),
    ],
)
def test_one_mistake_has_its_field(store: RunStore, draft: RunDraft, field: str) -> None:
    assert field in check(draft, store).mistakes


def test_a_mistake_in_the_profile_file_names_the_file(store: RunStore, tmp_path: Path) -> None:
    (tmp_path / "profiles" / "bad.toml").write_text("[training]\nepochs = 0\nwarmup = 7\n", encoding="utf-8")

    checked = check(RunDraft(profile="bad"), store)
    mended = check(RunDraft(profile="bad", epochs="2"), store)

    assert "bad.toml" in checked.mistakes["epochs"]
    assert list(mended.mistakes) == ["training.warmup"]
    assert "bad.toml" in mended.mistakes["training.warmup"]


def test_empty_fields_keep_the_values_of_the_profile(store: RunStore) -> None:
    own = check(RunDraft(profile="demo-distilled", teacher="latest"), store).own

    assert own["temperature"] == "2"
    assert own["alpha"] == "0.9"
    assert own["decoder"] == "64,32,32,16,16"
    assert own["learning_rate"] == "0.002"


def test_the_values_of_the_recipe_are_displayed_before_a_student_is_chosen(store: RunStore) -> None:
    before = check(RunDraft(teacher="latest"), store)
    chosen = check(RunDraft(teacher="latest", encoder="resnet18"), store)

    assert before.own["epochs"] == "5"
    assert chosen.profiles[0].name == "resnet18-from-demo-teacher"
    assert chosen.profiles[0].data == load("demo-teacher").data
    assert chosen.distils


def test_a_profile_with_several_teachers_stays_as_it_is(store: RunStore, tmp_path: Path) -> None:
    text = (tmp_path / "profiles" / "own.toml").read_text(encoding="utf-8")
    further = '[[teacher.ensemble]]\ncheckpoint = "run:demo-teacher"\nweight = 2.0\n'
    (tmp_path / "profiles" / "several.toml").write_text(text + further, encoding="utf-8")
    checked = check(RunDraft(profile="several", epochs="2"), store)
    assert not checked.mistakes
    assert checked.further_teachers == 1
    (profile,) = {run.profile.teacher for run in checked.group.new}
    assert [one.checkpoint for one in profile.members] == [
        str(tmp_path / "other.pth"),
        str(store.find("latest").best),
    ]
    assert "--teacher" not in checked.command


def test_a_teacher_whose_run_does_not_exist_is_a_mistake_of_its_field(store: RunStore, tmp_path: Path) -> None:
    text = 'extends = "own"\n[teacher]\ncheckpoint = "run:demo-teach"\n'
    (tmp_path / "profiles" / "other.toml").write_text(text, encoding="utf-8")
    assert "run:demo-teach" in check(RunDraft(profile="other"), store).mistakes["teacher"]


def test_the_cost_follows_encoder_and_decoder(store: RunStore) -> None:
    base = check(RunDraft(profile="own"), store).cost
    slim = check(RunDraft(profile="own", decoder="16,16,16,8,8"), store).cost
    other = check(RunDraft(profile="own", encoder="tu-mobilenetv3_small_050", epochs="x"), store).cost

    assert base is not None
    assert slim is not None
    assert other is not None
    assert slim.parameters < base.parameters
    assert other.parameters < base.parameters


def test_another_store_is_in_the_command(store: RunStore, tmp_path: Path) -> None:
    elsewhere = RunStore(tmp_path / "else where")

    command = check(RunDraft(profile="demo-baseline"), elsewhere).command

    assert shlex.split(command)[-3:] == ["--runs-dir", str(tmp_path / "else where"), "--detach"]


def test_an_item_of_a_list_is_named_at_the_field_of_the_list(store: RunStore, tmp_path: Path) -> None:
    typed = {"data.evaluation": "slide", "data.window": "64, 3", "decoder": "8, 9000, 8"}
    mistakes = check(RunDraft(**{"profile": "demo-baseline", **typed}), store).mistakes
    assert mistakes["data.window"].startswith("[1]: found 3; allowed: an integer, >= 16")
    assert mistakes["decoder"].startswith("[1]: found 9000; allowed: an integer")
    file = tmp_path / "bad.toml"
    file.write_text('extends = "demo-baseline"\n[data]\nevaluation = "slide"\nwindow = [3, 64]\n')
    assert "data.window[0]" in check(RunDraft(profile=str(file)), store).mistakes["data.window"]
