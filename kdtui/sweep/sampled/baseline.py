"""The matched baseline of the best trial of a sampled sweep."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kdtui.launch.groups import GroupRun, plan_group
from kdtui.profile.settings import plain
from kdtui.sweep.folder import BASELINE, manifest_entry
from kdtui.sweep.members import Place, cell_key
from kdtui.sweep.spec import affects_baseline, run_name

if TYPE_CHECKING:
    from kdtui.store.store import RunStore
    from kdtui.sweep.sampled.spec import SampledSpec
    from kdtui.sweep.sampled.trials import Trial


def baselines_of(store: RunStore, spec: SampledSpec, sweep_id: str, trial: Trial) -> dict[Place, GroupRun]:
    """The matched baselines of a trial, one for each seed; ``reused`` is a run of the store that is one."""
    group = plan_group(store, [spec.cell(trial.cell).profile], seeds=sorted(spec.seeds), with_baseline=True)
    values = {key: value for key, value in trial.cell.items() if affects_baseline(key)}
    stem = spec.base.name.removesuffix("-distilled")[:60]
    name = run_name(f"{stem}-baseline", {key: (plain(value), 0) for key, value in values.items()})
    found = {}
    for run in (run for run in group.runs if run.baseline):
        seed = run.profile.seed
        entry = manifest_entry(sweep_id, values, seed, BASELINE)
        profile = run.profile.model_copy(update={"name": name})
        found[Place(cell_key(values), seed, BASELINE)] = replace(run, profile=profile, sweep=entry)
    return found
