"""The cells of a sweep, and its id, which does not depend on the order of options."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtui.errors import StoreError, UsageError
from kdtui.profile import load
from kdtui.store.store import RunStore
from kdtui.sweep.file import is_sweep_file, read_file
from kdtui.sweep.folder import FORMAT, LaterVersion, SweepFolder, create, find, listing
from kdtui.sweep.spec import MOST_CELLS, Spec, from_tables
from tests.sweep.conftest import spec_of

T, ALPHA = "distillation.temperature", "distillation.alpha"


@pytest.fixture
def spec(store: RunStore, teacher: Path) -> Spec:
    return spec_of(store, teacher, f"{T}=1,2", f"{ALPHA}=0.3,0.5,0.7")


def test_every_combination_is_a_cell_with_the_profile_that_train_makes(spec: Spec, teacher: Path) -> None:
    cells = spec.cells()
    assert [tuple(cell.values.values()) for cell in cells] == [(t, a) for t in (1.0, 2.0) for a in (0.3, 0.5, 0.7)]
    for cell in cells:
        sets = [f"{key}={value}" for key, value in cell.values.items()]
        alone = load("demo-distilled", [f"teacher.checkpoint={teacher}", f"name={cell.profile.name}", *sets])
        assert cell.profile == alone
    assert len({cell.profile.name for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    "same",
    [
        (f"{ALPHA}=0.7,0.3,0.5", f"{T}=2,1"),
        (f"{T}=1.0,2e0", f"{ALPHA}=0.30,5e-1,0.7"),
        (" distillation . temperature = 1 , 2", f"{ALPHA}=0.3,0.5,0.7"),
        (f"{T}=1,2", f"{ALPHA}=0.3,0.5,0.7", 'description="another"', 'tags=["a"]'),
    ],
)
def test_the_same_request_has_the_same_id(store: RunStore, teacher: Path, spec: Spec, same: tuple[str, ...]) -> None:
    assert spec_of(store, teacher, *same).id == spec.id


@pytest.mark.parametrize(
    "other",
    [
        (f"{T}=1,2,4", f"{ALPHA}=0.3,0.5,0.7"),
        (f"{T}=1,2", f"{ALPHA}=0.3,0.5,0.7", "training.epochs=3"),
        (f"{T}=1,2", f"{ALPHA}=0.3,0.5,0.7", "name=another"),
        (f"{T}=1,2", "training.epochs=1,2"),
    ],
)
def test_another_request_has_another_id(store: RunStore, teacher: Path, spec: Spec, other: tuple[str, ...]) -> None:
    ids = {spec_of(store, teacher, *other).id, spec.id}
    base = (f"{T}=1,2", f"{ALPHA}=0.3,0.5,0.7")
    ids |= {spec_of(store, teacher, *base, seeds=(0, 1)).id, spec_of(store, teacher, *base, with_baseline=True).id}
    assert len(ids) == 4


def test_a_folder_gives_the_sweep_back(store: RunStore, spec: Spec) -> None:
    folder = create(store.root, spec.id, spec.to_tables())
    read = from_tables(folder)
    assert read == spec and read.id == spec.id
    assert [cell.profile for cell in read.cells()] == [cell.profile for cell in spec.cells()]
    assert create(store.root, spec.id, {"kind": "other"}) == folder and from_tables(folder) == spec
    assert store.runs() == [] and listing(store.root) == [folder]


def test_methods_encoders_and_any_key_are_axes(store: RunStore, teacher: Path) -> None:
    spec = spec_of(
        store,
        teacher,
        "training.learning_rate=1e-4,1e-3",
        "student.decoder_channels=[32,16,8,8,8],[64,32,16,8,8]",
        methods="kl,cwd",
        encoders="resnet18,resnet34",
    )
    assert [axis.key for axis in spec.axes][:2] == ["method", "student.encoder"]
    assert spec.size == len(spec.cells()) == 16
    assert {cell.profile.student.label for cell in spec.cells()} == {"resnet18", "resnet34"}
    kinds = {cell.values["method"]: cell.profile.distillation.terms for cell in spec.cells()}
    assert [[term.kind for term in terms or ()] for terms in kinds.values()] == [["kl"], ["cwd"]]


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        ((), "needs a key with several values"),
        ((f"{T}=4",), "needs a key with several values"),
        ((f"{T}=1,,2",), "empty value"),
        ((f"{T}=",), "empty value"),
        ((f"{T}=1,2", f"{T}=3,4"), "given twice"),
        ((f"{T}=1,1.0",), "listed twice"),
        (("name=a,b",), "takes one value"),
        (("seed=0,1",), "takes one value"),
        (("tags=a,b",), "takes one value"),
        (("launch.target=a,b",), "takes one value"),
        (("training.devices=1,2",), "takes one value"),
        (("training={epochs=1},{epochs=2}",), "is a table"),
        ((f"{T}=1..8",), "not a range"),
        (("training.learning_rate=1e-4..1e-2:log",), "not a range"),
        ((f"{T}=1,zero",), "1 error"),
        (("distillation.tempurature=1,2",), "1 error"),
        ((f"{T}=1,-2",), "1 error"),
        ((f"training.epochs={','.join(map(str, range(1, MOST_CELLS + 2)))}",), "too large"),
    ],
)
def test_what_cannot_be_a_grid_is_one_message(
    store: RunStore, teacher: Path, assignments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        spec_of(store, teacher, *assignments)
    assert not store.root.exists()


def test_a_folder_of_a_later_version_is_left_alone(store: RunStore, spec: Spec) -> None:
    folder = create(store.root, spec.id, spec.to_tables())
    later = folder.spec_path.read_text().replace(f"format = {FORMAT}", f"format = {FORMAT + 1}")
    folder.spec_path.write_text(later)
    for read in (lambda: from_tables(folder), lambda: create(store.root, spec.id, spec.to_tables())):
        with pytest.raises(LaterVersion, match="later version"):
            read()
    assert folder.spec_path.read_text() == later


@pytest.mark.parametrize("damage", ["", "format = 1\n", "format =", "\0", "format = 0\n", "missing"])
def test_a_damaged_folder_is_one_message_and_completed_when_asked_again(
    store: RunStore, spec: Spec, damage: str
) -> None:
    folder = create(store.root, spec.id, spec.to_tables())
    folder.spec_path.unlink() if damage == "missing" else folder.spec_path.write_text(damage)
    with pytest.raises(StoreError, match=r"spec.toml is damaged"):
        from_tables(folder)
    create(store.root, spec.id, spec.to_tables())
    assert from_tables(folder) == spec


def test_every_cut_of_the_file_is_refused_or_read_alike(store: RunStore, spec: Spec) -> None:
    folder = create(store.root, spec.id, spec.to_tables())
    data = folder.spec_path.read_bytes()
    lines = data.splitlines(keepends=True)
    for size in range(len(lines) - 1):
        folder.spec_path.write_bytes(b"".join(lines[:size]))
        with pytest.raises(StoreError):
            from_tables(folder)


def test_sweeps_are_found_by_id_prefix_and_name(store: RunStore, spec: Spec) -> None:
    with pytest.raises(UsageError, match="no sweep matches"):
        find(store.root, "latest")
    folder = create(store.root, spec.id, spec.to_tables())
    for text in (spec.id, "demo-distilled", spec.id[:-3], "latest"):
        assert find(store.root, text) == folder
    with pytest.raises(UsageError, match="no sweep matches") as raised:
        find(store.root, "demo-distiled")
    assert spec.id in str(raised.value.allowed)
    create(store.root, "demo-distilled-00000000", {"kind": "sweep"})
    with pytest.raises(UsageError, match="2 sweeps match"):
        find(store.root, "demo-distilled")


def test_leftovers_of_killed_processes_are_no_sweeps(store: RunStore, spec: Spec) -> None:
    create(store.root, spec.id, spec.to_tables())
    (store.root / ".sweeps" / ".x.tmp").mkdir()
    (store.root / ".sweeps" / "file").touch()
    assert [folder.id for folder in listing(store.root)] == [spec.id]
    assert SweepFolder(store.root / ".sweeps" / spec.id).name == "demo-distilled"


def test_a_file_asks_for_the_same_sweep(store: RunStore, teacher: Path, tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text(
        f'[sweep]\nprofile = "demo-distilled"\nteacher = "{teacher}"\ntemperature = [1, 2]\nseeds = [0, 1]\n'
        'with_baseline = true\n[sweep.set]\n"training.learning_rate" = [1e-4, 1e-3]\ndistillation.alpha = 0.5\n'
    )
    assert is_sweep_file(str(file)) and not is_sweep_file("demo-distilled") and not is_sweep_file(str(teacher))
    request = read_file(str(file))
    assert (request.teachers, request.seeds, request.with_baseline) == ((str(teacher),), "0,1", True)
    spec = spec_of(store, teacher, *request.assignments, seeds=(0, 1), with_baseline=True)
    words = (f"{T}=1,2", "training.learning_rate=1e-4,1e-3", f"{ALPHA}=0.5")
    assert spec.id == spec_of(store, teacher, *words, seeds=(0, 1), with_baseline=True).id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sweep]\n", "no profile"),
        ('[sweep]\nprofile = "baseline"\ntempertaure = [1]\n', "unknown entry"),
        ('[sweep]\nprofile = "baseline"\nseeds = []\n', "not a list"),
        ('[sweep]\nprofile = "baseline"\nmethod = [1]\n', "not text"),
        ('[sweep]\nprofile = "baseline"\nwith_baseline = 1\n', "not valid"),
        ('[sweep]\nprofile = "baseline"\nset = 1\n', "not a table"),
        ('[sweep]\nprofile = "baseline"\n[training]\nepochs = 1\n', "no other tables"),
        ("sweep = 1\n", "no other tables"),
    ],
)
def test_a_file_with_a_mistake_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "grid.toml"
    file.write_text(text)
    assert is_sweep_file(str(file))
    with pytest.raises(UsageError, match=message):
        read_file(str(file))
