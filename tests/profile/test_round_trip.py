"""load(dump(p)) == p, for any profile."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.profile import (
    CocoData,
    CocoSplit,
    DataTable,
    Distillation,
    FolderData,
    Model,
    Profile,
    SyntheticData,
    Teacher,
    Training,
    dump,
    load,
)

letters = st.characters(codec="utf-8", exclude_characters="\0")  # a NUL ends a path, and is refused
text = st.text(letters, max_size=20)
some_text = st.text(letters, min_size=1, max_size=20)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True)
tags = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:+=-]{0,10}", fullmatch=True)


def positive(most: float = 1000.0) -> st.SearchStrategy[float]:
    return st.floats(min_value=0, max_value=most, exclude_min=True, allow_nan=False)


shares = st.floats(min_value=0, max_value=1)
splits = st.builds(CocoSplit, images=some_text, annotations=some_text)
data: st.SearchStrategy[DataTable] = st.one_of(
    st.builds(
        SyntheticData,
        height=st.integers(16, 4096),
        augmentation=st.sampled_from(["none", "light", "heavy"]),
        train_limit=st.none() | st.integers(1, 10),
        label_noise=shares,
        train_samples=st.integers(1, 10**8),
    ),
    st.builds(CocoData, kind=st.just("coco"), train=splits, val=st.none() | splits, category=text, padding=shares),
    st.builds(FolderData, kind=st.just("folder"), root=some_text),
)
profiles = st.builds(
    Profile,
    name=names,
    description=text,
    tags=st.lists(tags, max_size=3).map(tuple),
    seed=st.integers(0, 2**32 - 1),
    data=data,
    student=st.builds(
        Model,
        encoder=text,
        decoder_channels=st.none() | st.integers(1, 512) | st.lists(st.integers(1, 512), max_size=5).map(tuple),
    ),
    teacher=st.builds(Teacher, checkpoint=st.none() | text, task=st.none() | st.sampled_from(["semantic"])),
    distillation=st.builds(
        Distillation, enabled=st.booleans(), temperature=positive(), alpha=shares, logits=positive()
    ),
    training=st.builds(
        Training, learning_rate=positive(100), weight_decay=positive(100), channels_last=st.booleans() | st.just("auto")
    ),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("round-trip") / "profile.toml"


@given(profile=profiles)
def test_dump_and_load(file: Path, profile: Profile) -> None:
    file.write_bytes(dump(profile))
    assert load(file) == profile
