"""extends, --set, lookup, and the messages about a file with mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from kdtui.errors import ProfileError
from kdtui.profile import CocoData, FolderData, Profile, SyntheticData, absolute, amend, load, sources
from kdtui.profile.table_fields import allowed_values, models_in


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(name: str | Path, *sets: str) -> tuple[str, ...]:
    with pytest.raises(ProfileError) as caught:
        load(name, sets)
    assert caught.value.exit_code == 2
    return caught.value.mistakes


def test_a_name_is_looked_up_here_first_then_among_the_shipped(here: Path) -> None:
    assert load("baseline").training.epochs == 20
    write(here / "profiles" / "baseline.toml", 'extends = "baseline"\n[training]\nepochs = 7\n')
    profile = load("baseline")
    assert profile.training.epochs == 7
    assert profile.student == load("hierarchical-b0").student  # from the shipped parent of the same name
    assert [path.parent.name for path in sources("baseline")] == ["profiles", "profiles"]


def test_a_path_is_a_path(here: Path) -> None:
    file = write(here / "sub" / "mine.toml", "seed = 4\n")
    assert load(file) == load("sub/mine.toml") == load(str(file))
    assert load(file).name == "mine"


@pytest.mark.parametrize("name", ["basline", "nowhere/basline.toml", "basline.toml"])
def test_an_unknown_profile_offers_the_nearest(name: str) -> None:
    with pytest.raises(ProfileError, match="baseline"):
        load(name)


def test_name_and_description_are_the_files_own(here: Path) -> None:
    write(here / "parent.toml", 'name = "parent-name"\ndescription = "of the parent"\ntags = ["parent"]\nseed = 3\n')
    child = load(write(here / "child.toml", 'extends = "parent"\n'))
    assert (child.name, child.description, child.tags, child.seed) == ("child", "", (), 3)


def test_tables_merge_and_arrays_replace(here: Path) -> None:
    write(here / "a.toml", "[student]\ndecoder_channels = [9, 8, 7, 6, 5]\n[training]\nepochs = 3\nbatch_size = 4\n")
    write(here / "b.toml", 'extends = "a"\n[student]\ndecoder_channels = [5]\n[training]\nepochs = 5\n')
    profile = load(write(here / "c.toml", 'extends = "b.toml"\n[training]\nlearning_rate = 2\n'))
    assert profile.student.model_dump()["decoder_channels"] == (5,)
    assert (profile.training.epochs, profile.training.batch_size, profile.training.learning_rate) == (5, 4, 2.0)


def test_another_kind_replaces_the_table(here: Path) -> None:
    write(here / "a.toml", "[data]\ntrain_samples = 9\nheight = 64\n")  # synthetic, because it does not say
    child = load(write(here / "b.toml", 'extends = "a"\n[data]\nkind = "folder"\nroot = "x"\n'))
    assert child.data == FolderData(kind="folder", root="x")
    same = load(write(here / "c.toml", 'extends = "a"\n[data]\nkind = "synthetic"\nwidth = 32\n'))
    assert same.data == SyntheticData(train_samples=9, height=64, width=32)


@pytest.mark.parametrize("sets", [["data.kind=folder", "data.root=x"], ["data.root=x", "data.kind=folder"]])
def test_set_may_change_the_kind_in_any_order(sets: list[str]) -> None:
    assert load("baseline", sets).data == FolderData(kind="folder", root="x")


def test_circles_are_named(here: Path) -> None:
    write(here / "a.toml", 'extends = "b"\n')
    write(here / "b.toml", 'extends = "c"\n')
    write(here / "c.toml", 'extends = "a"\n')
    with pytest.raises(ProfileError, match="a -> b -> c -> a"):
        load(here / "a.toml")
    write(here / "self.toml", 'extends = "self"\n')
    with pytest.raises(ProfileError, match="self -> self"):
        load(here / "self.toml")


def test_a_missing_parent_offers_the_nearest(here: Path) -> None:
    write(here / "my-parent.toml", "")
    with pytest.raises(ProfileError, match="did you mean my-parent") as caught:
        load(write(here / "a.toml", 'extends = "my-parnt"\n'))
    assert str(here / "a.toml") in str(caught.value)


def test_a_syntax_error_names_file_and_line(here: Path) -> None:
    file = write(here / "a.toml", "seed = 1\n[training\n")
    with pytest.raises(ProfileError, match="line 2") as caught:
        load(file)
    assert str(file) in str(caught.value)


def test_what_is_no_text_is_refused(here: Path) -> None:
    (here / "a.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProfileError, match="UTF-8"):
        load(here / "a.toml")
    (here / "dir.toml").mkdir()
    with pytest.raises(ProfileError, match="no profile"):
        load(here / "dir.toml")


def test_set_reads_toml_else_text() -> None:
    profile = load(
        "baseline",
        [
            "student.encoder=resnet18",
            "training.epochs=5",
            "training.channels_last=false",
            'tags=["a", "b"]',
            "seed = 2",
        ],
    )
    assert profile.student.label == "resnet18"
    assert profile.training.epochs == 5
    assert profile.training.channels_last is False
    assert profile.tags == ("a", "b")
    assert profile.seed == 2
    assert load("baseline", ["training.epochs=5", "training.epochs=6"]).training.epochs == 6


def test_every_mistake_at_once_with_its_origin(here: Path) -> None:
    parent = write(here / "parent.toml", "[training]\nepochs = 0\n[distillation]\ntempurature = 3.0\n")
    child = write(here / "child.toml", 'extends = "parent"\nsede = 1\n[training]\nbatch_size = true\n')
    found = mistakes(child, "distillation.alpha=1.5", "student.encoder=3", "nonsense")
    assert len(found) == 7
    text = "\n".join(found)
    for key, origin, detail in (
        ("training.epochs", parent, "found 0; allowed: an integer, >= 1"),
        ("distillation.tempurature", parent, "did you mean temperature?"),
        ("sede", child, "did you mean seed?"),
        ("training.batch_size", child, "found True; allowed: an integer"),
        ("distillation.alpha", "--set distillation.alpha=1.5", "found 1.5; allowed: a number, >= 0.0, <= 1.0"),
        ("student.encoder", "--set student.encoder=3", "found 3; allowed: text in quotes"),
    ):
        assert f"{key} ({origin}): " in text
        assert detail in text
    assert "--set 'nonsense'" in text


@pytest.mark.parametrize(
    ("setting", "key", "said"),
    [
        ("distillation.temperature=0", "distillation.temperature", "> 0"),
        ("distillation.temperature=-1", "distillation.temperature", "> 0"),
        ("distillation.temperature=nan", "distillation.temperature", "number"),
        ("distillation.temperature=inf", "distillation.temperature", "number"),
        ("distillation.alpha=-0.1", "distillation.alpha", ">= 0"),
        ("distillation.enabled=1", "distillation.enabled", "true or false"),
        ("training.precision=bf1", "training.precision", "did you mean bf16?"),
        ("training.devices=3", "training", "is not divisible"),
        ("data.kind=cocos", "data.kind", "did you mean coco?"),
        ("data.heigth=64", "data.heigth", "did you mean height?"),
        ("data=3", "data", "table"),
        ("student.decoder_channels=wide", "student.decoder_channels", "a list"),
        ('student.decoder_channels=[1, "a"]', "student.decoder_channels[1]", "found 'a'; allowed: an integer, >= 1"),
        ("data.window=[64, 3]", "data.window[1]", "found 3; allowed: an integer, >= 16, <= 4096"),
        ('data.window=["a", 64]', "data.window[0]", "found 'a'; allowed: an integer, >= 16, <= 4096"),
        ("data.window=[64]", "data.window", "found [64]; allowed: a list, each an integer, >= 16, <= 4096, 2 values"),
        ("data.scale=[0.5, 99]", "data.scale[1]", "found 99; allowed: a number, >= 0.1, <= 10.0"),
        ('data.mean=[0.5, "a", 0.5]', "data.mean[1]", "found 'a'; allowed: a number"),
        ('student={kind = "roi", roi = [3, 60]}', "student.roi[0]", "found 3; allowed: an integer, >= 8"),
        ('student={kind = "roi", mask = [160]}', "student.mask", "found [160]; allowed: a list, each an integer"),
        ("temperature=4", "temperature", "did you mean distillation.temperature?"),
        ("trainning.epochs=1", "trainning", "did you mean training?"),
        ("name=../../x", "name", "letters"),
        ('name="\\u001b[31m"', "name", "letters"),
        ('tags=["a b"]', "tags[0]", "letters"),
        ("seed.x=1", "seed", "an integer"),
        ("training.epochs=five", "training.epochs", "found 'five'"),
        ("training.epochs=1000000000", "training.epochs", "found 1000000000; allowed: an integer, >= 1, <= 100000"),
        (f"training.epochs={10**400}", "training.epochs", "found an integer of 1329 bits"),
        (f"training.learning_rate=0x{'f' * 9000}", "training.learning_rate", "<= 100.0"),
        ("training.learning_rate=1e30", "training.learning_rate", "found 1e+30; allowed: a number, > 0.0, <= 100.0"),
        ("training.batch_size=1000000000", "training.batch_size", "<= 65536"),
        ("data.height=1000000", "data.height", "<= 4096"),
        ("distillation.temperature=1e30", "distillation.temperature", "<= 1000"),
        ("student.decoder_channels=0", "student.decoder_channels", "an integer, >= 1, <= 8192"),
        ("student.decoder_channels=[8, -1]", "student.decoder_channels[1]", "found -1; allowed: an integer, >= 1"),
    ],
)
def test_one_mistake(setting: str, key: str, said: str) -> None:
    found = mistakes("baseline", setting)
    assert len(found) == 1, found
    assert found[0].startswith(f"{key} (")
    assert said in found[0]


@pytest.mark.parametrize(
    ("text", "sets", "origin"),
    [
        # Keys that contradict each other: that of --set, or of the file, which is not always the last one of the table.
        ('extends = "demo-baseline"', ["data.train_limit=5", "data.unlabelled.target=hard"], "--set data.unlabelled."),
        ('extends = "demo-baseline"\n[training]\nbatch_size = 7\ndevices = 2', ["training.epochs=3"], "{file}"),
        ('extends = "demo-baseline"\n[training]\nbatch_size = 7', ["training.devices=2"], "--set training.devices=2"),
        ('extends = "demo-baseline"\n[training]\ndevices = 3', [], "{file}"),
        ('extends = "camvid-baseline"\n[data.unlabelled]\nimages = "x"', [], "{file}"),
    ],
)
def test_a_contradiction_is_reported_where_its_keys_were_set(
    here: Path, text: str, sets: list[str], origin: str
) -> None:
    file = here / "mine.toml"
    file.write_text(text)
    with pytest.raises(ProfileError) as caught:
        load(file, sets)
    (mistake,) = caught.value.mistakes
    assert f" ({origin.format(file=file)}" in mistake


def test_a_contradiction_in_sets_is_not_one_of_the_shipped_profile() -> None:
    with pytest.raises(ProfileError) as caught:
        load("demo-baseline", ["data.train_limit=5", "data.unlabelled.target=hard"])
    assert "(--set data.unlabelled.target=hard)" in caught.value.mistakes[0]


def test_a_missing_key_is_named_below_its_table(here: Path) -> None:
    file = write(here / "a.toml", '[data]\nkind = "coco"\n[data.train]\nimages = "x"\n')
    assert mistakes(file) == (f"data.train.annotations ({file}): missing; allowed: text in quotes, not empty",)


def test_a_file_name_that_is_not_a_profile_name_is_reported(here: Path) -> None:
    assert "my profile.toml" in mistakes(write(here / "my profile.toml", ""))[0]


def test_amend_checks_like_a_file() -> None:
    profile = load("baseline")
    assert amend(profile, ["training.epochs=3"]).training.epochs == 3
    assert amend(profile, []) == profile
    with pytest.raises(ProfileError, match="did you mean epochs"):
        amend(profile, ["training.epoch=3"])


def test_absolute_anchors_every_path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    folder = absolute(load("camvid-baseline", ["teacher.checkpoint=~/t.pth"]))
    assert isinstance(folder.data, FolderData)
    assert folder.data.root == str(here / "data/camvid")
    assert folder.teacher.checkpoint == "/home/someone/t.pth"
    coco = absolute(load("people-baseline"))
    assert isinstance(coco.data, CocoData)
    for split in (coco.data.train, coco.data.val, coco.data.test):
        if split is None:
            continue
        assert Path(split.images).is_absolute()
        assert Path(split.annotations).is_absolute()
    assert absolute(coco) == coco
    assert absolute(load("baseline")) == load("baseline")


def numbers(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Every number of a table and of those below it, with what is said to be allowed."""
    for name, field in model.model_fields.items():
        said = allowed_values(field)
        if "number" in said or "integer" in said:
            yield f"{model.__name__}.{name}", said
        for below in models_in(field.annotation):
            yield from numbers(below)


def test_no_number_is_without_an_upper_bound() -> None:
    table = dict(numbers(Profile))
    assert len(table) > 30
    for key, said in table.items():
        assert said.count("number") + said.count("integer") == said.count("<"), f"{key}: {said}"
