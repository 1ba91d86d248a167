"""``kdtui gc``: disk usage of runs and removal of training states."""

from __future__ import annotations

from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui
from tests.store.test_space import ended, names


def test_states_are_shown_and_removed(kdtui: Kdtui, store: RunStore) -> None:
    assert kdtui("gc").code == 0
    run = ended(store, "one")
    before = names(run)
    shown = kdtui("gc", "--dry-run")
    assert shown.code == 0
    assert run.id in shown.out and "nothing was removed" in shown.err
    assert kdtui("gc").code == 2  # stdin is not a terminal
    assert names(run) == before

    report = kdtui("gc", "--yes", "--json").json
    (entry,) = report["runs"]
    assert entry["removable"][-1] == "last.pth"
    assert entry["freed_bytes"] == entry["removable_bytes"] > 0
    assert names(run) == {"best_model.pth"}
    assert "0.0 MiB removable" in kdtui("gc").err


def test_runs_are_chosen_by_name_or_filter(kdtui: Kdtui, store: RunStore) -> None:
    one, two = ended(store, "one"), ended(store, "two")
    assert [entry["id"] for entry in kdtui("gc", "--dry-run", "--json", "--filter", "one").json["runs"]] == [one.id]
    assert kdtui("gc", "two", "--yes").code == 0
    assert "last.pth" in names(one) and "last.pth" not in names(two)


def test_mistaken_options(kdtui: Kdtui, store: RunStore) -> None:
    ended(store, "one")
    for options, word in ((["--keep", "all"], "best or last"), (["--older", "soon"], "--older 30d")):
        refused = kdtui("gc", *options)
        assert refused.code == 2 and word in refused.err


def test_the_list_of_runs_has_the_disk_usage(kdtui: Kdtui, store: RunStore) -> None:
    run = ended(store, "one")
    total = sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file() and path != run.last)
    assert kdtui("runs", "--json").json[0]["disk_bytes"] == total
