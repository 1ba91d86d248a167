from __future__ import annotations

import json
import shlex
import sys

import pytest

from kdtui.errors import EngineError, KdtuiError, LaunchError, TeacherError
from kdtui.launch.engine_process import ask, converse, engine_command, engine_environment, free_port, rank_environment
from kdtui.launch.local import LocalLauncher
from kdtui.launch.targets import launcher_for
from kdtui.profile import Profile
from kdtui.store.store import RunStore


def test_the_door_is_another_process_of_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDTUI_ENGINE")
    assert engine_command("train", "r") == [sys.executable, "-P", "-m", "kdtui.engine", "train", "r"]
    monkeypatch.setenv("KDTUI_ENGINE", "conda run 'my env' python")
    assert engine_command("train", "r") == ["conda", "run", "my env", "python", "train", "r"]
    monkeypatch.setenv("KDTUI_ENGINE", "'open")
    with pytest.raises(LaunchError, match="KDTUI_ENGINE"):
        engine_command("train")


def test_an_answer_is_the_object_on_stdout() -> None:
    assert ask("say", '{"a": [1]}', "talk on stderr") == {"a": [1]}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("TeacherError", TeacherError),
        ("LaunchError", LaunchError),
        ("Unheard", EngineError),
        ("annotations", EngineError),
        ("ClassVar", EngineError),
        ("ProfileError", KdtuiError),
    ],
)
def test_an_error_comes_back_as_what_it_was(name: str, kind: type[KdtuiError]) -> None:
    with pytest.raises(kind, match="four classes") as caught:
        ask("say", json.dumps({"error": {"error": name, "message": "four classes", "hint": "do"}}), "", "4")
    assert caught.value.hint == "do"
    assert caught.value.message == "four classes"


@pytest.mark.parametrize("output", ["", "not json", "[1]", "3"])
def test_no_answer_is_reported_with_what_stood_on_stderr(output: str) -> None:
    with pytest.raises(EngineError, match="ended with code 1") as caught:
        ask("say", output, "Traceback\nImportError: no \x1b[31mtorch", "1")
    assert "ImportError: no [31mtorch" in str(caught.value)


def test_an_engine_that_is_missing_or_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDTUI_ENGINE", f"{sys.executable} -c 'import time; time.sleep(60)'")
    with pytest.raises(EngineError, match="did not respond"):
        ask("inspect", timeout=0.2)
    monkeypatch.setenv("KDTUI_ENGINE", "/no/such/door")
    with pytest.raises(LaunchError, match="/no/such/door"):
        ask("inspect")


def test_ranks_differ_only_in_their_number() -> None:
    port = free_port()
    first, second = (rank_environment(rank, 2, port=port, gpus=("3", "4")) for rank in (0, 1))
    assert {key for key in first if first[key] != second[key]} == {"RANK", "LOCAL_RANK"}
    assert first["CUDA_VISIBLE_DEVICES"] == "3,4"
    assert int(first["OMP_NUM_THREADS"]) >= 1


def test_an_engine_is_no_rank_of_the_job_that_this_process_is_part_of(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "LT_DEVICES"):
        monkeypatch.setenv(name, "2")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    monkeypatch.setenv("KDTUI_ENGINE", shlex.join([sys.executable, "-c", code]))
    for answer in (ask("any"), converse("any")):
        assert not [
            name for name in answer if "RANK" in name or "WORLD" in name or name.startswith(("MASTER", "TORCHEL"))
        ]
    assert engine_environment(rank_environment(1, 2, port=7))["RANK"] == "1"


def test_the_launcher_of_a_profile(store: RunStore) -> None:
    assert isinstance(launcher_for(Profile(name="a"), store), LocalLauncher)
