"""A plan in words: runs, what would be trained and why, departures from the papers, cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from bench import exhibit, words
from bench.report import freeze
from bench.run import RunSpec
from bench.workflow import plan as planning
from bench.workflow.plan import Plan, Planned


def _cost(runs: list[Planned]) -> dict[str, float]:
    return {
        name: round(value, 4) if value < 1e6 else float(f"{value:.4g}") for name, value in planning.total(runs).items()
    }


def _by_exhibit(plan: Plan) -> dict[str, list[Planned]]:
    """Exhibit -> its runs and their parents, in the plan's order."""
    by_exhibit: dict[str, list[Planned]] = {name: [] for name in plan.exhibits}
    for run in plan.runs.values():
        for name in run.exhibits:
            by_exhibit[name].append(run)
    return by_exhibit


def as_json(plan: Plan) -> str:
    """``{"scale", "exhibits": [{name, title, runs, with_parents, cost, remarks, departures}], "runs", "to_train"}``."""
    todo = {run.key for run in plan.to_train()}
    by_exhibit = _by_exhibit(plan)
    exhibits = [
        {
            "name": name,
            "title": exhibit.registry()[name].title,
            "runs": len(plan.keys_of(name)),
            "with_parents": len(by_exhibit[name]),
            "cost": _cost(by_exhibit[name]),
            "remarks": _remarks(by_exhibit[name]),
            "departures": {
                field: {"paper": paper, "here": here}
                for field, (paper, here) in plan.settings[name].departures().items()
            },
        }
        for name in plan.exhibits
    ]
    runs = [
        {
            "key": run.key,
            "label": run.spec.label(),
            "group": run.spec.group,
            "seed": run.spec.seed,
            "state": run.state,
            "train": run.key in todo,
            "why": run.why,
            "exhibits": run.exhibits,
            "parent": None if run.spec.parent_spec is None else plan.key(run.spec.parent_spec),
            "cost": _cost([run]),
        }
        for run in plan.runs.values()
    ]
    content = {"scale": plan.suite.scale, "exhibits": exhibits, "runs": runs, "to_train": len(todo)}
    return json.dumps(content, indent=1, default=str)


def _departures(plan: Plan, *, choices: bool) -> list[str]:
    """A line for each setting that is not the paper's, with the exhibits that share it.

    Args:
        choices: those that choose from the paper's grid, or all others.
    """
    shared: dict[tuple[str, str], list[str]] = {}
    for name, settings in plan.settings.items():
        paper, own = name.split("/")
        for field, (published, here) in settings.departures().items():
            if (field in settings.selects) is not choices:
                continue
            shared.setdefault((paper, f"{field}: {words.setting(published)} -> {words.setting(here)}"), []).append(own)
    of_paper = Counter(name.split("/")[0] for name in plan.settings)
    return [
        f"  {paper} {change} ({'all' if len(names) == of_paper[paper] > 1 else ', '.join(names)})"
        for (paper, change), names in sorted(shared.items(), key=lambda item: item[0][0])
    ]


def _between_looks(plan: Plan) -> list[str]:
    """A line for each exhibit whose number of seeds is none of the looks, so that its last seeds decide nothing."""
    looks = plan.suite.looks
    lines = []
    for name, settings in plan.settings.items():
        if looks and settings.seeds not in looks and settings.seeds > looks[0]:
            used = max(n for n in looks if n < settings.seeds)
            lines.append(f"{name}: {settings.seeds} seeds are no declared look; its claims are judged on {used}")
    return lines


def _remarks(runs: Iterable[Planned]) -> list[str]:
    """What runs say of themselves, such as what they are trained on."""
    kinds: dict[type[RunSpec], list[RunSpec]] = {}
    for run in runs:
        kinds.setdefault(type(run.spec), []).append(run.spec)
    return [remark for kind, specs in kinds.items() for remark in kind.remarks(specs)]


def _amount(sums: dict[str, float]) -> str:
    parts = [f"{_count(sums[unit])} {unit}" for unit in ("samples", "tokens") if sums[unit]]
    return " + ".join(parts) or "nothing to train"


def _count(value: float) -> str:
    """Large counts in billions, as papers on language models state them."""
    return f"{value / 1e9:,.0f} B" if value >= 1e10 else f"{value:.3g}"


def _hours(value: float) -> str:
    return f"{value * 60:.1f} min" if value < 1 else f"{value:,.1f} h" if value < 72 else f"{value / 24:,.0f} days"


def as_text(plan: Plan, *, every_run: bool = False) -> str:
    """The plan for people: a line per exhibit, its departures, what is to be trained, the sums."""
    todo = plan.to_train()
    keys = {run.key for run in todo}
    lines = [f"{'exhibit':26} {'runs':>6} {'parents':>8} {'missing':>8} {'2 cores':>10} {'one GPU':>10}  work"]
    for name, runs in _by_exhibit(plan).items():
        own = len(plan.keys_of(name))
        sums = planning.total(runs)
        missing = sum(run.key in keys for run in runs)
        lines.append(
            f"{name:26} {own:6} {len(runs) - own:8} {missing:8} {_hours(sums['hours_cpu']):>10}"
            f" {_hours(sums['hours_gpu']):>10}  {_amount(sums)}"
        )
    remarks = [f"  {remark}" for remark in _remarks(plan.runs.values())]
    choices = _departures(plan, choices=True)
    lines += [
        "",
        freeze.summary(plan),
        *_between_looks(plan),
        "",
        "departures from the paper (setting: paper's value -> here)",
        *(_departures(plan, choices=False) or ["  none"]),
        *(["", "chosen from the paper's grid, which is no departure", *choices] if choices else []),
        *(["", "what is to be known of the runs", *remarks] if remarks else []),
        "",
        _summary(plan, todo),
    ]
    reasons: dict[str, int] = {}
    for run in todo:
        reasons[run.why] = reasons.get(run.why, 0) + 1
    lines += [f"  {count} because: {why}" for why, count in sorted(reasons.items(), key=lambda item: -item[1])]
    lines += assumed_rates(run.cost.kind for run in plan.runs.values())
    if every_run:
        lines += ["", f"{'run':60} {'state':11} feeds"]
        lines += [
            f"{run.spec.label()[:60]:60} {'train' if run.key in keys else run.state:11} {', '.join(run.exhibits)}"
            for run in plan.runs.values()
        ]
    return "\n".join(lines)


def _summary(plan: Plan, todo: list[Planned]) -> str:
    everything, missing = planning.total(plan.runs.values()), planning.total(todo)
    return (
        f"{len(plan.runs)} runs, {len(plan.runs) - len(todo)} done or not needed, {len(todo)} to train: "
        f"{_hours(missing['hours_cpu'])} on 2 cores or {_hours(missing['hours_gpu'])} on one GPU; "
        f"all of it: {_amount(everything)}, {everything['flops']:.3g} FLOP, "
        f"{_hours(everything['hours_cpu'])} or {_hours(everything['hours_gpu'])}"
    )


def assumed_rates(kinds: Iterable[str]) -> list[str]:
    """A line for each rate behind the hours that nobody has measured, with the arithmetic that it comes from."""
    rates, names = planning.throughput(), sorted(set(kinds))
    lines = []
    for machine, name in (("cpu", "2 cores"), ("gpu", "one GPU")):
        for kind in names:
            rate = rates.get(kind, rates["default"])[machine]
            if rate["measured"] is None:
                lines.append(f"  {kind} on {name}: {float(rate['flops']):.3g} FLOP/s, {rate['assumed']}")
    return ["", "rates that are assumed, not measured", *lines] if lines else []
