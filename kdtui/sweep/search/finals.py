"""Which trained network a search ends with: the best trial, or the next ones if its export is over the budget.

Costs of a trained export are kept in ``finals.json`` of the search, and everything else follows from them, so that a
controller that was killed decides the same from the same files.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdtui.compare.measured import seconds, usable_measurements
from kdtui.errors import StoreError
from kdtui.store.files import read_file, write_atomically
from kdtui.store.run import Run
from kdtui.store.values import MOST_BYTES, is_number, is_whole, parse_json
from kdtui.sweep.folder import SweepFolder
from kdtui.sweep.search.budget import Budget, Costs
from kdtui.text import mebibytes, milliseconds

if TYPE_CHECKING:
    from kdtui.sweep.search.spec import SearchSpec

_FILE = "finals.json"
MEASUREMENTS = 2
"""How often a latency over the budget is measured before its network is dropped: another process may have slowed it."""


@dataclass(frozen=True)
class Final:
    """A network that was trained whole, and what its export costs.

    Attributes:
        key: Name of its candidate.
        run: Id of the exported run, the best of the seeds.
        latencies: Median seconds for one image, of each measurement; the smallest counts.
        bytes: Size of the exported file; None if it was not measured.
        parameters: None if they were not counted.
    """

    key: str
    run: str
    latencies: tuple[float, ...] = ()
    bytes: int | None = None
    parameters: int | None = None

    @property
    def costs(self) -> Costs:
        """What is compared with the budget."""
        return Costs(min(self.latencies, default=None), self.parameters, self.bytes)

    def unsure(self, budget: Budget) -> bool:
        """Whether its latency has to be measured again, as that alone exceeds the budget."""
        latency = self.costs.latency
        only = not budget.exceeded(dataclasses.replace(self.costs, latency=None))
        return only and latency is not None and latency > budget.latency and len(self.latencies) < MEASUREMENTS

    def dropped(self, budget: Budget) -> bool:
        """Whether it is over the budget for certain."""
        return bool(budget.exceeded(self.costs)) and not self.unsure(budget)


@dataclass(frozen=True)
class Choice:
    """Which network is the student.

    Attributes:
        student: The one that is trained whole or was; if none is within the budget, the nearest of those.
        settled: Whether nothing is left to train or measure.
        dropped: Networks whose trained export is over the budget, in the order in which they were tried.
        beyond: Trials that were not trained whole, as they would be over the budget too, with the costs that they would
            have; empty until the choice is settled.
    """

    student: str | None = None
    settled: bool = False
    dropped: tuple[str, ...] = ()
    beyond: Mapping[str, Costs] = field(default_factory=dict)

    @property
    def within(self) -> bool:
        """Whether the student is not one of those over the budget."""
        return self.student is not None and self.student not in self.dropped


def choose(
    budget: Budget, ranking: Sequence[str], finals: Mapping[str, Final], untrained: Mapping[str, Costs]
) -> Choice:
    """The student as far as it is known.

    Args:
        budget: That of the search.
        ranking: Trials that could be the student, the best first.
        finals: What trained exports cost, by key.
        untrained: What untrained exports cost, by key.
    """
    dropped = [key for key in ranking if key in finals and finals[key].dropped(budget)]
    expected = {key: _expected(untrained[key], finals, untrained, dropped) for key in ranking if key not in finals}
    beyond = {key: costs for key, costs in expected.items() if budget.exceeded(costs)}
    left = [key for key in ranking if key not in dropped and key not in beyond]
    if left:
        final = finals.get(left[0])
        settled = final is not None and not final.unsure(budget)
        return Choice(left[0], settled, tuple(dropped), beyond if settled else {})
    nearest = min(dropped, key=lambda key: budget.excess(finals[key].costs), default=None)
    return Choice(nearest, True, tuple(dropped), beyond)


def _expected(own: Costs, finals: Mapping[str, Final], untrained: Mapping[str, Costs], dropped: Sequence[str]) -> Costs:
    """What a trained network costs at the smallest ratio of trained to untrained among those that were dropped."""
    known = [(finals[key].costs, untrained[key]) for key in dropped]

    def grown(cost: Callable[[Costs], float | None]) -> float | None:
        value = cost(own)
        pairs = [(cost(trained), cost(before)) for trained, before in known]
        ratios = [after / before for after, before in pairs if after is not None and before]
        return value if value is None or not ratios else value * min(ratios)

    return Costs(grown(lambda one: one.latency), grown(lambda one: one.parameters), grown(lambda one: one.bytes))


def measured_costs(run: Run, spec: SearchSpec) -> Costs:
    """What the exported student of a run costs, as it was measured on the target; nothing is known before that."""
    answer = usable_measurements(run)[0]
    if answer is None:
        return Costs()
    setup, student = answer["setup"], answer["student"]
    if (setup["device"], setup["threads"]) != (spec.target.device, spec.target.threads):
        return Costs()
    size = student.get("onnx", {}).get(spec.target.precision, {}).get("bytes")
    return Costs(seconds(student, spec.target.series), student.get("parameters"), size)


def final_of(key: str, run: Run, spec: SearchSpec, before: Final | None) -> Final:
    """A network that was trained whole, with the latest measurement of its run.

    Args:
        key: Name of the candidate.
        run: The run that was exported.
        spec: The search.
        before: The same one with its earlier measurements.
    """
    costs = measured_costs(run, spec)
    earlier = () if before is None else before.latencies
    latencies = (*earlier, *((costs.latency,) if costs.latency is not None else earlier[-1:]))
    sizes = (None if one is None else int(one) for one in (costs.bytes, costs.parameters))
    return Final(key, run.id, latencies, *sizes)


def over_budget(budget: Budget, final: Final, untrained: Costs) -> str:
    """Why a network was dropped: what its trained export costs, and what the untrained one did."""
    before = [] if budget.bytes is None or untrained.bytes is None else [mebibytes(untrained.bytes)]
    before += [] if untrained.latency is None else [milliseconds(untrained.latency)]
    over = ", ".join(budget.exceeded(final.costs))
    return f"{final.key} is over the budget when trained: {over}; untrained {', '.join(before)}"


def read_finals(folder: SweepFolder) -> dict[str, Final]:
    """The networks that were trained whole and measured, by key.

    Raises:
        StoreError: The file is damaged.
    """
    path = folder.path / _FILE
    try:
        rows = parse_json(read_file(path, most=MOST_BYTES))["finals"]
        return {row["key"]: _final(row) for row in rows}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            "the measurements of trained networks cannot be read",
            where=path,
            hint="delete that file: they are measured again",
        ) from error


def _final(row: Mapping[str, Any]) -> Final:
    latencies = tuple(row["latencies"])
    sizes = (row["bytes"], row["parameters"])
    if not all(is_number(one) and one > 0 for one in latencies):
        raise ValueError("a latency is not a positive number")
    if not all(one is None or is_whole(one) for one in sizes):
        raise ValueError("a size is not a whole number")
    return Final(str(row["key"]), str(row["run"]), latencies, *sizes)


def record_final(folder: SweepFolder, final: Final) -> None:
    """Keep what a trained network costs; it replaces what was kept of the same one."""
    finals = {**read_finals(folder), final.key: final}
    text = json.dumps({"finals": [dataclasses.asdict(one) for one in finals.values()]}, indent=1)
    write_atomically(folder.path / _FILE, text.encode() + b"\n")
