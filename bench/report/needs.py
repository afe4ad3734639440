"""How many seeds each claim needs by the paper's own means and spreads, and how rarely the paper's number suffices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from bench import exhibit, power, published, stats
from bench.exhibit import LABELS, Exhibit
from bench.workflow.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

STANDARD_DEVIATIONS = ("sd", "std")
"""Kinds of published spread that say how runs differ; what bands of figures are is not always known."""
RARELY = 0.5
"""Chance of being reproduced below which the paper's number of seeds rarely decides a claim."""


def published_frame(chosen: Exhibit) -> tuple[pd.DataFrame, int]:
    """A long frame of the published means and standard deviations, with arms that are uncorrelated.

    Returns:
        The frame, in which each repetition of the paper is as many seeds, so that means are exact and spreads nearly so; and
        how many. Numbers without a published spread are NaN in every seed, so that no claim is judged by them.
    """
    import numpy as np
    import pandas as pd

    rows = published.of_exhibit(chosen)
    rows = rows[rows["provenance"].isin(published.OWN) & rows["value"].notna()]
    if (
        "spread_kind" not in rows
        or not (spread := rows["spread"].where(rows["spread_kind"].isin(STANDARD_DEVIATIONS))).any()
    ):
        return pd.DataFrame(columns=[*LABELS, "metric", "seed", "value"]), 1
    size = len(rows) + 2
    noise = np.random.default_rng(0).normal(size=(size, len(rows) + 1))
    noise[:, 0] = 1.0
    noise = np.linalg.qr(noise)[0][:, 1:]  # orthogonal to one another and to the mean
    noise /= noise.std(0, ddof=1)
    repetitions = rows["n"].fillna(chosen.settings().seeds).astype(int)
    frames = []
    for number, (row, sd, n) in enumerate(zip(rows.to_dict("records"), spread, repetitions, strict=True)):
        names = {label: row[label] for label in (*LABELS, "metric")}
        values = np.tile(row["value"] + sd * noise[:, number], n)
        frames.append(pd.DataFrame({**names, "seed": range(len(values)), "value": values}))
    return pd.concat(frames, ignore_index=True), size


@dataclass(frozen=True)
class PaperNeed:
    """What a claim needs by the paper's own means and spreads.

    Attributes:
        seeds: for `power.SUFFICES` of the cases; ``None`` where no number that is within reach does.
        printed: repetitions in the paper, the least of the claim's numbers.
        chance: that those reproduce it.
    """

    seeds: int | None
    printed: int
    chance: float


@lru_cache(maxsize=64)
def of_exhibit(name: str) -> dict[str, PaperNeed]:
    """Claim -> what it needs, for the claims that rest on numbers with published spreads alone."""
    known = exhibit.registry()
    own, size = published_frame(known[name])
    found: dict[str, PaperNeed] = {}
    for claim in known[name].claims if len(own) else ():
        if claim.kind == "estimate" or claim.also:
            continue
        try:
            finding = claim.test(own)
        except Exception:  # a test may ask for rows that the paper has not printed
            continue
        leaves = stats.leaves(finding)
        if all(_known(leaf) for leaf in leaves):
            printed = min(leaf.n for leaf in leaves) // size
            need = power.need(finding, printed)
            found[claim.name] = PaperNeed(need.seeds, printed, need.chance)
    return found


def _known(leaf: stats.Finding) -> bool:
    return leaf.hypothesis is not None and not any(map(math.isnan, leaf.hypothesis.values.values()))


def note(name: str, claim: str) -> str:
    """What a reader of a claim must know of its power, or ""."""
    need = of_exhibit(name).get(claim)
    if need is None:
        return ""
    if need.seeds is None:
        return "the paper's own means and spreads do not show it"
    rarely = f"; its {need.printed} rarely suffice ({need.chance:.0%})" if need.chance < RARELY else ""
    return (
        f"by the paper's own means and spreads {need.seeds} seeds show it in {power.SUFFICES:.0%} of the cases{rarely}"
    )


def lines(plan: Plan) -> list[str]:
    """A line for each claim of a plan: exhibit, name, what it needs, its sentence."""
    found = []
    for name in plan.exhibits:
        for claim in exhibit.registry()[name].claims:
            about = note(name, claim.name) or ("an estimate" if claim.kind == "estimate" else "no published spread")
            found.append(f"{name:26} {claim.name:8} {about}; {claim.statement}")
    return found
