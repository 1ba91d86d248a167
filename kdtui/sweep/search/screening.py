"""Which candidates fit the budget: what the catalog knows, then measurements of untrained exports, which are kept."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui.errors import StoreError
from kdtui.launch.engine_process import EngineStep, converse
from kdtui.launch.measure import measure_untrained
from kdtui.launch.plan import out_channels
from kdtui.processes import cores
from kdtui.store.files import read_file, write_atomically
from kdtui.store.identity import hostname
from kdtui.store.values import MOST_BYTES, is_number, is_whole, parse_json
from kdtui.sweep.search.budget import Budget, Costs
from kdtui.sweep.search.candidates import Candidate, parameters_of
from kdtui.text import mebibytes, millions, milliseconds

if TYPE_CHECKING:
    from kdtui.sweep.search.spec import SearchSpec

_PACKAGES = ("torch", "onnxruntime", "segmentation-models-pytorch", "timm")


@dataclass(frozen=True)
class Screened:
    """A candidate, and what is known of its costs.

    Attributes:
        parameters: None if unknown.
        used: Parameters that the output depends on, which alone are exported; None if unknown or measured.
        bytes: Size of the exported file; None before it was measured.
        latency: Median seconds for one image; None before it was measured.
        q1: First quartile of the latency.
        q3: Third quartile.
        macs: Multiply-accumulates of one image.
        error: Why it cannot be built, exported or run; empty otherwise.
        over: What of it exceeds the budget; empty if nothing does, as far as it is known.
    """

    candidate: Candidate
    parameters: int | None = None
    used: int | None = None
    bytes: int | None = None
    latency: float | None = None
    q1: float | None = None
    q3: float | None = None
    macs: int | None = None
    error: str = ""
    over: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether its latency is known."""
        return self.latency is not None

    @property
    def costs(self) -> Costs:
        """What is compared with the budget."""
        return Costs(self.latency, self.parameters, self.bytes)

    @property
    def fits(self) -> bool:
        """Whether it was measured and is within the budget."""
        return self.measured and not self.over and not self.error

    @property
    def word(self) -> str:
        """Its state in one or two words."""
        if self.error:
            return "failed"
        return "over budget" if self.over else "fits" if self.measured else "to measure"

    def cells(self) -> list[str]:
        """The cells of its row in a plan: name, parameters, size, latency, state."""
        state = self.error or ", ".join(self.over) or self.word
        sizes = [millions(self.parameters), mebibytes(self.bytes), milliseconds(self.latency)]
        return [self.candidate.key, *sizes, state]


def screened(spec: SearchSpec, root: Path, parameters: Mapping[str, tuple[int, int]] | None = None) -> list[Screened]:
    """All candidates with what the catalog and the cache of measurements know of them; nothing is measured.

    Args:
        spec: The search.
        root: The run store, whose cache is read.
        parameters: Stored and used parameters by name, for networks that the catalog does not have.
    """
    found = []
    for candidate in spec.candidates():
        kept = _kept(root, spec, candidate)
        count = parameters_of(spec.base, candidate)
        if count is None:
            count = (parameters or {}).get(candidate.key)
        found.append(judged(spec, Screened(candidate, *(count or ())) if kept is None else _of_report(candidate, kept)))
    return found


def judged(spec: SearchSpec, one: Screened) -> Screened:
    """A candidate with what of it exceeds the budget; before it is measured, a file has at least its weights."""
    size = one.bytes
    if size is None and one.used is not None:
        size = spec.target.least_bytes(one.used)
    over = spec.budget.exceeded(Costs(one.latency, one.parameters, size))
    return dataclasses.replace(one, over=tuple(over))


def unknown_parameters(spec: SearchSpec, found: Iterable[Screened]) -> list[Candidate]:
    """Candidates whose parameters have to be counted before a budget of parameters or bytes can exclude them."""
    if spec.budget.parameters is None and spec.budget.bytes is None:
        return []
    return [one.candidate for one in found if one.parameters is None and not one.error]


def count_parameters(spec: SearchSpec, candidates: Sequence[Candidate]) -> dict[str, tuple[int, int]]:
    """Let the engine count parameters, in one process; networks that cannot be built are left out."""
    if not candidates:
        return {}
    with _request(spec, candidates, sizes_only=True) as request:
        answer = converse("screen", str(request))
    names = ("parameters", "parameters_used")
    known = {key: row for key, row in answer["runs"].items() if all(is_whole(row.get(name)) for name in names)}
    return {key: (row[names[0]], row[names[1]]) for key, row in known.items()}


def measure(
    spec: SearchSpec,
    root: Path,
    candidates: Sequence[Candidate],
    *,
    on_step: Callable[[EngineStep], None] = lambda step: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Measure untrained candidates, one after the other with exclusive use of the device; each result is kept at once.

    Args:
        spec: The search.
        root: The run store.
        candidates: The candidates; none calls nothing.
        on_step: Called with each progress step of the engine.
        cancelled: Polled ten times a second.

    Raises:
        Interrupted: It was cancelled; what was measured before is kept.
        KdtuiError: The engine reported an error.
    """
    by_key = {candidate.key: candidate for candidate in candidates}
    if not by_key:
        return

    def step(now: EngineStep) -> None:
        if now.report is not None and now.target in by_key:
            _keep(root, spec, by_key[now.target], now.report)
        on_step(now)

    with _request(spec, candidates, sizes_only=False) as request:
        measure_untrained(root, request, spec.target.options, on_step=step, cancelled=cancelled)


@contextlib.contextmanager
def _request(spec: SearchSpec, candidates: Sequence[Candidate], *, sizes_only: bool) -> Any:
    from kdtui.profile import dump

    with tempfile.TemporaryDirectory(prefix="kdtui-") as folder:
        profile, request = Path(folder) / "profile.toml", Path(folder) / "request.json"
        profile.write_bytes(dump(spec.base))
        body = {
            "profile": str(profile),
            "networks": {one.key: _table(spec, one) for one in candidates},
            "runtime": spec.target.runtime,
            "precision": spec.target.precision,
            "sizes_only": sizes_only,
        }
        request.write_text(json.dumps(body), encoding="utf-8")
        yield request


def _table(spec: SearchSpec, candidate: Candidate) -> dict[str, Any]:
    table: dict[str, Any] = candidate.network(spec.student).model_dump(mode="json", exclude_none=True)
    table.pop("encoder_weights", None)  # which weights it starts from costs nothing
    return table


def _file(root: Path, spec: SearchSpec, candidate: Candidate) -> Path:
    """The cached measurement: by network, images, device, runtime, and this machine with its libraries."""
    data = spec.base.data
    parts = {
        "network": _table(spec, candidate),
        "outputs": out_channels(spec.base),
        "images": [data.image_channels, data.height, data.width],
        "target": dataclasses.asdict(spec.target),
        "machine": [hostname(), cores()],
        "versions": {package: _version(package) for package in _PACKAGES},
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
    return root / ".cache" / "untrained" / f"{digest}.json"


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except ImportError:
        return ""


def _keep(root: Path, spec: SearchSpec, candidate: Candidate, report: Mapping[str, Any]) -> None:
    file = _file(root, spec, candidate)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError("the measurement could not be kept", where=file, found=error.strerror) from error
    write_atomically(file, json.dumps(dict(report), indent=1).encode() + b"\n")


def _kept(root: Path, spec: SearchSpec, candidate: Candidate) -> Mapping[str, Any] | None:
    try:
        report = parse_json(read_file(_file(root, spec, candidate), most=MOST_BYTES))
    except (OSError, ValueError):  # none, or damaged: it is measured again
        return None
    if not isinstance(report, dict):
        return None
    times = report.get("latency")
    whole = isinstance(times, dict) and all(is_number(times.get(key)) for key in ("median", "q1", "q3"))
    return report if whole or isinstance(report.get("error"), str) else None


def _of_report(candidate: Candidate, report: Mapping[str, Any]) -> Screened:
    if isinstance(report.get("error"), str):
        return Screened(candidate, error=report["error"])
    times = report["latency"]
    counts = {key: report[key] for key in ("parameters", "bytes", "macs") if is_whole(report.get(key))}
    return Screened(candidate, **counts, latency=times["median"], q1=times["q1"], q3=times["q3"])


def nearest(budget: Budget, found: Iterable[Screened]) -> Screened | None:
    """The candidate that exceeds the budget by the smallest factor; measured ones come first."""
    usable = (one for one in found if not one.error)
    return min(usable, key=lambda one: (not one.measured, budget.excess(one.costs)), default=None)


def to_json(one: Screened) -> dict[str, Any]:
    """Plain values with stable keys."""
    body = dataclasses.asdict(one)
    return {**body.pop("candidate"), "key": one.candidate.key, **body, "state": one.word}
