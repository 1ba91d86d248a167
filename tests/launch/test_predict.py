from __future__ import annotations

from pathlib import Path

import pytest

from kdtui.errors import DataError, UsageError
from kdtui.launch.predict import Network, PredictOptions, pictures_of, predict


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.png", "a/deep/1.JPG", "a/notes.txt", "b/1.png", "b/2.webp"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def targets(*texts: str, lines: tuple[str, ...] = ()) -> list[str]:
    return [str(target) for _, target in pictures_of(texts, lines)]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a"], ["1", "deep/1"]),
        (["b/2.webp", "a/1.png"], ["2", "1"]),
        (["b/*.png"], ["1"]),
        (["**/deep/*"], ["1"]),
    ],
)
def test_files_folders_and_patterns(here: Path, texts: list[str], expected: list[str]) -> None:
    assert targets(*texts) == expected


def test_paths_from_stdin(here: Path) -> None:
    assert targets("-", lines=("b/1.png\n", "\n", "b/2.webp\n")) == ["1", "2"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["none.png"], "no such picture"),
        (["*.tiff"], "no such picture"),
        (["a/deep/..", "b"], "same output name"),
        ([], "no picture to segment"),
    ],
)
def test_what_cannot_be_segmented(here: Path, texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pictures_of(texts, ())


def test_a_folder_without_pictures(here: Path) -> None:
    (here / "empty").mkdir()
    with pytest.raises(UsageError, match="has no picture"):
        pictures_of(["empty"], ())


def test_an_output_never_replaces_a_picture(here: Path) -> None:
    with pytest.raises(DataError, match="would replace a picture"):
        predict(Network(here / "best.pth"), pictures_of(["b"], ()), here / "b", PredictOptions())
