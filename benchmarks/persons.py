"""Every person of real pictures: a wide teacher, and students that are distilled from it, on COCO people.

From a folder with the data in ``data/people``:

- ``python -m benchmarks.persons people`` trains a teacher, a student with its head and a slim one, both distilled and
  alone, at sizes for a CPU, and compares them on the test split. Finished runs are not trained again.
- ``python -m benchmarks.persons latency`` measures ``persons-b3`` and its students at their full sizes. Latency does
  not depend on weights, so that these networks are trained for one step.
"""

from __future__ import annotations

import argparse

from benchmarks.methods import finished, kdtui, settings, start, wait

METHOD = "dist"
"""What was best on the validation split of CamVid."""
STUDENTS = {"persons-slim": "persons-slim-from-b3", "persons-b0": "persons-b0-from-b3"}
"""Profiles of the students by name of their runs."""
_SIZES = (
    "data.height=96", "data.width=96", "data.min_box=6", "data.mask_size=[40,28]", "data.view_seed=0",
    "student.roi=[20,14]", "student.mask=[40,28]", "student.head_depth=2", "training.batch_size=8",
    "training.micro_batch_size=8", "training.threads=1", "training.evaluate_every=4",
)  # fmt: skip
_WEIGHTS = ("distillation.temperature=2", "distillation.alpha=0.5")
_TEACHER = (
    "student.encoder=resnet18", "student.decoder_channels=[64,32,32,16,16]", "student.head_channels=64",
    "training.learning_rate=1e-3",
)  # fmt: skip
_ENCODER = ("student.encoder=tu-mobilenetv3_small_100", "training.learning_rate=2e-3")
_OWN = {
    "persons-b0": ("student.head_channels=64",),
    "persons-slim": ("student.head_channels=16", "student.decoder_channels=[64,32,32,16,16]"),
}
_EPOCHS = 8
_ONE_STEP = (
    "data.train_limit=1", "data.holdout=0.004", "data.max_instances=1", "training.epochs=1", "training.batch_size=1",
    "training.visualize_every=-1",
)  # fmt: skip


def people() -> None:
    """Train and compare at sizes for a CPU."""
    sizes = settings(*_SIZES, f"training.epochs={_EPOCHS}")
    start("persons-b3", "persons-teacher", *sizes, *settings(*_TEACHER))
    wait(["persons-teacher"])
    for name, profile in STUDENTS.items():
        own = settings(*_ENCODER, *_OWN[name], *_WEIGHTS)
        start(profile, name, "--method", METHOD, "--teacher", "persons-teacher", "--with-baseline", *sizes, *own)
    names = ["persons-teacher", *(f"{name}{part}" for name in STUDENTS for part in ("-baseline", ""))]
    wait(names)
    print(kdtui("compare", *names, "--split", "test", "--format", "markdown"))
    print(kdtui("measure", *names, "--markdown"))
    print(f"hours of training: {hours(names):.2f}")


def hours(names: list[str]) -> float:
    """Hours that runs took, with other work at the same time."""
    return float(sum(run["last_event"] - run["started"] for name in names for run in finished(name))) / 3600


def latency() -> None:
    """Measure the networks of the profiles at 640 x 640."""
    start("persons-b3", "latency-b3", *settings(*_ONE_STEP))
    wait(["latency-b3"])
    names = []
    for profile in STUDENTS.values():
        names.append(f"latency-{profile}")
        start(profile, names[-1], "--teacher", "latency-b3", *settings(*_ONE_STEP))
    wait(names)
    kdtui("export", "latency-b3", *names, "--dynamic", "batch")
    print(kdtui("measure", *names, "--repeats", "5", "--warmup", "1", "--batch", "1", "--markdown"))


def main() -> None:
    """Do one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("people", "latency"))
    if parser.parse_args().what == "people":
        people()
    else:
        latency()


if __name__ == "__main__":
    main()
