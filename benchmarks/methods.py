"""Which method distils best on real data: chosen on the validation split, reported on the test split.

``python -m benchmarks.methods camvid`` from a folder with the data in ``data/camvid``, or ``people``:

1. a teacher, and with seed 0 the baseline, the methods, and the terms of the best two together;
2. by validation mIoU the best two of these, and the baseline, with five further seeds;
3. the comparison of these on the test split.

``fewlabels`` trains with a tenth of CamVid's labels, with the other images and without, with the teacher of ``camvid``.
Every run is an ordinary one of the store; finished runs are not trained again, so the command may be repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from kdtui.profile.methods import find_method
from kdtui.profile.settings import toml

METHODS = ("kl", "cwd", "feature", "cwd+feature", "dist", "edge", "reliable-kl")
SEEDS = "1-5"
SEEDS_OF_FEW_LABELS = "1-5"
CHOSEN = 2
WEIGHTS = ("distillation.temperature=2", "distillation.alpha=0.5")
"""As the papers' CE + w·L, halved, which AdamW does not see."""

_STUDENT = (
    "student.encoder=tu-mobilenetv3_small_100", "training.learning_rate=2e-3", "training.visualize_every=0",
    "data.view_seed=0",
)  # fmt: skip
"""All runs see the same views, so that the teacher's logits are computed once."""
_TEACHER = ("student.encoder=resnet18", "training.learning_rate=1e-3", "student.decoder_channels=[64,32,32,16,16]")
# By data and size: keys of all runs, epochs of the teacher and of the students.
SIZES: dict[tuple[str, str], tuple[tuple[str, ...], int, int]] = {
    ("camvid", "cpu"): (("data.height=96", "data.width=128", "data.views=0", "training.evaluate_every=4"), 30, 20),
    ("people", "cpu"): (("training.evaluate_every=3",), 20, 6),
    ("camvid", "gpu"): (
        (
            "data.geometry=crop", "data.height=288", "data.width=384", "data.evaluation=whole",
            "training.evaluate_every=10", "training.workers=4",
        ),
        120, 80,
    ),
    ("people", "gpu"): (
        ("data.height=160", "data.width=128", "training.workers=4", "training.evaluate_every=4"),
        40, 24,
    ),
}  # fmt: skip


def kdtui(*arguments: str) -> str:
    """The output of a command, which is printed first."""
    print("kdtui", *(f"'{part}'" if "[" in part else part for part in arguments), flush=True)
    done = subprocess.run([sys.executable, "-m", "kdtui", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)  # kdtui has said why
    return done.stdout


def runs() -> list[dict[str, Any]]:
    """All runs of the store, as ``kdtui runs --json`` lists them."""
    command = [sys.executable, "-m", "kdtui", "runs", "--json"]
    return list(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def finished(name: str) -> list[dict[str, Any]]:
    """The finished runs of a name."""
    return [run for run in runs() if run["name"] == name and run["state"] == "FINISHED"]


def wait(names: Sequence[str]) -> None:
    """Wait until no run of these names is queued or running.

    Raises:
        SystemExit: One did not finish.
    """
    while True:
        mine = [run for run in runs() if run["name"] in names]
        if not any(run["state"] in ("QUEUED", "STARTING", "RUNNING", "STOPPING") for run in mine):
            break
        time.sleep(10)
    missing = [name for name in names if not finished(name)]
    if missing:
        sys.exit(f"not finished: {', '.join(missing)}; see kdtui runs, remove them and repeat this command")


def start(profile: str, name: str, *options: str) -> None:
    """Queue a run unless one of its name exists."""
    if not any(run["name"] == name for run in runs()):
        kdtui("train", profile, "--name", name, "--detach", *options)


def settings(*keys: str) -> list[str]:
    """``--set`` of each."""
    return [part for key in keys for part in ("--set", key)]


def terms(methods: Sequence[str]) -> str:
    """``distillation.terms`` of several methods together; of two terms of a kind the first."""
    together: dict[str, dict[str, Any]] = {}
    for method in methods:
        for term in find_method(method).terms:
            together.setdefault(term["kind"], term)
    return f"distillation.terms={toml(list(together.values()))}"


def best(data: str) -> list[str]:
    """The methods, best first, by the validation mIoU of their run with seed 0."""
    scores = {name.removeprefix(f"{data}-seed0-"): finished(name)[0]["best"]["miou"] for name in selection(data)}
    return sorted(scores, key=lambda method: -scores[method])


def selection(data: str) -> list[str]:
    """Names of the runs of the methods with seed 0."""
    names = [f"{data}-seed0-{method}" for method in (*METHODS, "combination")]
    return [name for name in names if finished(name)]


def compare_methods(data: str, size: str) -> None:
    """The three parts for one set of data."""
    keys, teacher_epochs, epochs = SIZES[data, size]
    teacher, baseline = f"{data}-methods-teacher", f"{data}-seed0-baseline"
    student = settings(*keys, *_STUDENT, f"training.epochs={epochs}")
    start(f"{data}-baseline", teacher, *settings(*keys, *_TEACHER, f"training.epochs={teacher_epochs}"))
    start(f"{data}-baseline", baseline, *student)
    wait([teacher])
    distilled = ["--teacher", teacher, *student, *settings(*WEIGHTS)]
    profile = f"{data}-distilled"
    for method in METHODS:
        start(profile, f"{data}-seed0-{method}", "--method", method, *distilled)
    wait([baseline, *(f"{data}-seed0-{method}" for method in METHODS)])
    first_two = [method for method in best(data) if method != "combination"][:2]
    combination = ["--set", terms(first_two)]
    start(profile, f"{data}-seed0-combination", *combination, *distilled)
    wait([f"{data}-seed0-combination"])
    print(kdtui("compare", baseline, teacher, *selection(data), "--format", "markdown"))
    chosen = best(data)[:CHOSEN]
    print(f"chosen for {data}: {', '.join(chosen)}; combination: {combination[1]}", flush=True)
    names = []
    for method in chosen:
        names.append(f"{data}-seeds-{method}")
        how = combination if method == "combination" else ["--method", method]
        start(profile, names[-1], *how, *distilled, "--seeds", SEEDS, "--with-baseline")
    report(names)


def few_labels(size: str) -> None:
    """A tenth of CamVid's labels, with the other images and without."""
    keys, _, epochs = SIZES["camvid", size]
    name, teacher = "camvid-fewlabels-seeds", "camvid-methods-teacher"
    wait([teacher])
    own = [key for key in keys if not key.startswith("training.evaluate_every")]
    student = settings(*own, *_STUDENT, f"training.epochs={epochs * 10}", f"training.evaluate_every={epochs}")
    weights = ("distillation.temperature=2", "distillation.alpha=0.9")
    distilled = [*student, "--teacher", teacher, *settings(*weights)]
    start("camvid-fewlabels-distilled", name, *distilled, "--seeds", SEEDS_OF_FEW_LABELS, "--with-baseline")
    report([name])


def report(names: Sequence[str]) -> None:
    """Wait for groups and compare them with their baselines on the test split."""
    wait(names)
    groups = {run["group"] for run in runs() if run["name"] in names}
    partners = {f"{name}-baseline" for name in names}
    wait([name for name in sorted(partners) if any(run["name"] == name for run in runs())])
    for group in sorted(groups):
        print(kdtui("compare", group, "--split", "test", "--per-class", "--format", "markdown"))


def main() -> None:
    """Train what is missing and print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("camvid", "people", "fewlabels"))
    parser.add_argument("--size", choices=("cpu", "gpu"), default="cpu")
    chosen = parser.parse_args()
    if chosen.what == "fewlabels":
        few_labels(chosen.size)
    else:
        compare_methods(chosen.what, chosen.size)


if __name__ == "__main__":
    main()
