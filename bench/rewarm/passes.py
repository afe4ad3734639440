"""How often a run passes through each source of its training text. Without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.data import text
from bench.rewarm.spec import PretrainSpec, Text

MOST = 3.0
"""Passes over a source that are worth a warning: up to about four, repeated text is as good as new (arXiv 2305.16264)."""


def _drawn(spec: PretrainSpec) -> Iterator[tuple[str, float, Mapping[str, float] | None]]:
    """(corpus, tokens drawn of it, sampling weights) for a run and the runs that it goes on from."""
    for run in spec.chain():
        if isinstance(run, PretrainSpec) and isinstance(run.corpora, Text):
            new, old = run.corpora.downstream, run.corpora.upstream
            if run.train_on == "upstream":
                new, old = old, new
            tokens = run.steps * run.tokens_per_step
            yield new, tokens * (1 - run.replay), dict(run.sources) or text.corpus(new).weights
            if run.replay:
                yield old, tokens * run.replay, text.corpus(old).weights


def tokens(spec: PretrainSpec) -> dict[str, float]:
    """Corpus -> tokens that are drawn of it, from random or public weights on."""
    amounts: dict[str, float] = {}
    for name, amount, _ in _drawn(spec):
        amounts[name] = amounts.get(name, 0.0) + amount
    return amounts


def passes(spec: PretrainSpec, data_root: Path) -> dict[str, dict[str, float]]:
    """Corpus -> source -> passes over its training text, from random or public weights on.

    Tokens are counted where a corpus has been tokenised, otherwise they are about those of `bench.data.text`. A corpus of
    unknown length has no sources here. Generated languages have no end and are left out.
    """
    if not isinstance(spec.corpora, Text):
        return {}
    counts: dict[str, dict[str, float]] = {}
    for name, amount, weights in _drawn(spec):
        held = text.training_tokens(data_root, spec.corpora.tokenizer, name)
        shares = weights or held
        of_corpus = counts.setdefault(name, {})
        for source, share in shares.items():
            if held.get(source):
                drawn = amount * share / sum(shares.values())
                of_corpus[source] = of_corpus.get(source, 0.0) + drawn / held[source]
    return counts


def remarks(specs: Sequence[PretrainSpec], data_root: Path) -> list[str]:
    """For each corpus that runs are trained on a line with the most that one of them draws, and a warning if it is much."""
    amounts: dict[str, float] = {}
    counts: dict[str, dict[str, float]] = {}
    for spec in {spec.group: spec for spec in specs}.values():
        of_run = passes(spec, data_root)
        for name, amount in tokens(spec).items():
            if amount > amounts.get(name, 0.0):
                amounts[name], counts[name] = amount, of_run[name]
    lines = []
    for name, amount in amounts.items():
        size = f"{amount / 1e9:,.1f} B" if amount >= 1e9 else f"{amount / 1e6:,.1f} M"
        shown = ", ".join(f"{source} {count:.2f}" for source, count in counts[name].items())
        lines.append(
            f"{name} ({text.corpus(name).title}), up to {size} tokens in a run; passes over its sources: "
            f"{shown or 'known when it has been tokenised'}"
        )
    return lines + warnings(counts)


def notes(spec: PretrainSpec, data_root: Path) -> dict[str, Any]:
    """For the record: passes over each source, and warnings."""
    counts = passes(spec, data_root)
    if not counts:
        return {}
    rounded = {name: {source: float(f"{n:.3g}") for source, n in of.items()} for name, of in counts.items()}
    return {"passes": rounded, **({"warnings": lines} if (lines := warnings(counts)) else {})}


def warnings(counts: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A line for each corpus of which a source is passed more than `MOST` times."""
    lines = []
    for name, sources in counts.items():
        if many := {source: count for source, count in sources.items() if count > MOST}:
            shown = ", ".join(f"{source} {count:,.0f} times" for source, count in many.items())
            lines.append(f"WARNING: {name} is too short: a run passes {shown}")
    return lines
