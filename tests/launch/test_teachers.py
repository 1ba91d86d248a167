"""What RUN|FILE means: a run by its name, a file by its path, and what is said where both have one name."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtui.errors import AmbiguousRun, RunNotFound, UsageError
from kdtui.export_options import ExportOptions
from kdtui.launch.export import export_request
from kdtui.launch.references import linked
from kdtui.launch.teachers import find_teacher, is_path, prepare, recipe, resume_point, source
from kdtui.profile import Profile, dump, load
from kdtui.store.run import Run
from kdtui.store.store import RunStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.chdir(tmp_path)
    return RunStore(tmp_path / "runs")


def trained(store: RunStore, name: str = "city") -> Run:
    run = store.create(load("baseline", [f"name={name}"]))
    run.best.write_text("weights")
    run.last.write_text("state")
    return run


@pytest.mark.parametrize("folder", [True, False])
def test_a_run_is_not_hidden_by_a_file_of_its_name(store: RunStore, folder: bool) -> None:
    run, beside = trained(store), Path("city")
    if folder:
        beside.mkdir()
    else:
        beside.write_text("x")
    for text in ("city", run.id, run.id[:15], "latest"):
        found = source(text, store)
        assert (found.run, found.path) == (run, None)
    assert "./city means the" in source("city", store).note
    assert source("latest", store).note == ""
    for written in ("./city", str(beside.absolute()), f"{beside.parent.absolute()}/./city"):
        found = source(written, store)
        assert (found.run, found.path, found.note) == (None, Path(written), "")


def test_every_verb_asks_the_same_question(store: RunStore) -> None:
    run = trained(store)
    Path("city").mkdir()
    teacher, point, export = (
        find_teacher("city", store),
        resume_point("city", store),
        export_request("city", store, ExportOptions()),
    )
    assert (teacher.run, teacher.checkpoint) == (run, run.best)
    assert point.checkpoint == run.last
    assert (export.run, export.checkpoint) == (run, run.best)
    assert teacher.note == point.note == export.note != ""
    Path("city").rmdir()
    Path("city").write_text("weights of another program")
    teacher, point, export = (
        find_teacher("./city", store),
        resume_point("./city", store),
        export_request("./city", store, ExportOptions()),
    )
    assert teacher.checkpoint == point.checkpoint == export.checkpoint == Path("city").absolute()
    assert teacher.run is export.run is None


def test_a_file_without_a_separator_is_found_where_no_run_has_its_name(store: RunStore) -> None:
    trained(store)
    Path("teacher.pth").write_text("x")
    assert source("teacher.pth", store).path == Path("teacher.pth")
    with pytest.raises(RunNotFound):
        source("nothing", store)
    with pytest.raises(RunNotFound):
        source("./nothing", store)


def test_several_runs_of_a_name_are_ambiguous_even_if_a_file_has_the_name(store: RunStore) -> None:
    trained(store)
    trained(store)
    Path("city").mkdir()
    with pytest.raises(AmbiguousRun):
        source("city", store)


def test_a_runs_folder_and_its_checkpoints_belong_to_the_run(store: RunStore) -> None:
    run = trained(store)
    for text in (f"runs/{run.id}", str(run.path)):
        assert source(text, store) == source(run.id, store)
        assert find_teacher(text, store).checkpoint == run.best
        assert resume_point(text, store).checkpoint == run.last
    assert source(str(run.best), store).run == run
    # From inside the store, the run's name is also its folder's: no ambiguity.
    assert RunStore(run.path.parent).find(run.id) == run


def test_a_run_id_is_unambiguous_inside_its_store(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(store)
    monkeypatch.chdir(store.root)
    assert source(run.id, store).note == ""


def test_a_path_that_cannot_be_looked_at_is_refused(store: RunStore) -> None:
    with pytest.raises(UsageError, match="cannot access this path"):
        source("/" + "t" * 300, store)


@pytest.mark.parametrize(("text", "path"), [("a", False), ("a.pth", False), ("./a", True), ("~/a", True), ("..", True)])
def test_a_path_has_a_separator(text: str, path: bool) -> None:
    assert is_path(text) is path


HALF = (0.5, 0.5, 0.5)
BY_ENCODER = [
    ("resnet18", None),
    ("tu-resnet18.a1_in1k", None),
    ("tu-vit_small_patch16_224.dino", None),
    ("tu-vit_small_patch16_224", HALF),
    ("tu-vit_small_patch16_224.augreg_in1k", HALF),
    ("inceptionv4", HALF),
    ("timm-tf_efficientnet_lite0", HALF),
    ("tu-mobilevitv2_050", (0.0, 0.0, 0.0)),
]


@pytest.mark.parametrize(("encoder", "mean"), BY_ENCODER)
def test_published_weights_have_the_normalisation_of_their_training(
    store: RunStore, encoder: str, mean: tuple[float, ...] | None
) -> None:
    profile = "people-baseline"
    published = [f'student.encoder="{encoder}"', 'student.weights="imagenet"']
    assert prepare(profile, published, None).data.mean == mean
    assert prepare(profile, published[:1], None).data.mean is None  # random weights expect nothing
    assert prepare(profile, [*published, "data.pipeline=1"], None).data.mean is None
    assert prepare(profile, [*published, "data.mean=[0.1,0.2,0.3]"], None).data.std is None


def test_only_new_runs_get_the_normalisation_of_their_encoder(store: RunStore) -> None:
    published = ['student.encoder="inceptionv4"', 'student.weights="imagenet"']
    earlier = store.create(load("people-baseline", published))
    assert dump(prepare(str(earlier.profile_path), [], None)) == earlier.profile_path.read_bytes()
    newer = store.create(prepare("people-baseline", published, None))
    newer.best.write_bytes(b"")
    taught = recipe(find_teacher(newer.id, store), "resnet18", ['student.encoder="resnet18"'], named=False)
    assert newer.profile().data.mean == HALF
    assert taught.data.mean is None  # its own, not its teacher's


def test_weights_of_a_run_have_the_normalisation_of_its_images(store: RunStore) -> None:
    encoder = 'student.encoder="inceptionv4"'
    source = store.create(prepare("people-baseline", [encoder, 'student.weights="imagenet"'], None))
    source.best.write_bytes(b"")
    of_run = [encoder, f'student.weights="run:{source.id}"']

    def tuned(*sets: str) -> Profile:
        return linked([prepare("people-baseline", [*of_run, *sets], None)], store)[0]

    fine = tuned()
    assert (fine.data.mean, fine.data.std) == (HALF, HALF)
    assert tuned("data.mean=[0.1,0.2,0.3]").data.std is None
    assert tuned("data.pipeline=1").data.mean is None
    teacher = store.create(fine)
    teacher.best.write_bytes(b"")
    taught = recipe(find_teacher(teacher.id, store), "resnet18", ['student.encoder="resnet18"'], named=False)
    assert taught.data.mean is None  # its own, not that of the teacher's weights
    taught = recipe(find_teacher(teacher.id, store), "inceptionv4", of_run, named=False)
    assert linked([taught], store)[0].data.mean == HALF
