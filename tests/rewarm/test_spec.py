"""Specifications: steps of evaluation, starting points, what cannot be, and cuts for a smoke test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from bench.errors import UserError
from bench.rewarm.design import RewarmSettings
from bench.rewarm.spec import PAPERS_TEXT, Checkpoint, Evaluation, Optimizer, PretrainSpec, Schedule, Text

Make = Callable[..., PretrainSpec]


def test_the_papers_evaluation_steps() -> None:
    """Step 0, the peak of the rate, every 50 steps at the start and every 100 after (authors' configuration)."""
    spec = PretrainSpec(seed=0, corpora=PAPERS_TEXT, schedule=Schedule(max_lr=3e-4), stop=0.1684)
    assert spec.schedule.warmup_steps == pytest.approx(1312.96)
    steps = spec.evaluation_steps()
    assert spec.steps == 22_110
    assert steps[:4] == [0, 1, 50, 100] and 1313 in steps and steps[-1] == 22_110
    assert {step for step in range(0, 2626, 50)} <= set(steps)
    after = [step for step in steps if step > 2700]
    assert after == [*range(2800, 22_101, 100), 22_110]
    assert steps == sorted(set(steps))


def test_defaults_are_the_authors() -> None:
    spec = PretrainSpec(seed=0, corpora=PAPERS_TEXT, schedule=Schedule(max_lr=3e-4))
    assert spec.tokens_per_step == 2_260_992
    assert spec.steps * spec.tokens_per_step == pytest.approx(296.859e9, rel=1e-5)
    assert (spec.moments, spec.replay, spec.train_on) == ("fresh", 0.0, "downstream")
    assert spec.parameters() == 405_334_016
    assert spec.cost().flops == pytest.approx(2.73e9 * 296.859e9 * 1.067, rel=0.05)


def test_kept_steps_are_shares_of_the_run(toy: Make) -> None:
    spec = toy(schedule={"steps": 1000}, keep=(0.07, 0.189))
    assert spec.kept_steps() == {70: "step70", 189: "step189", 1000: "weights"}
    assert {70, 189, 1000} <= set(spec.evaluation_steps())
    child = toy(parent=spec, start="step70")
    assert child.needs() == ("step70",) and child.origin() == "upstream step70"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"checkpoint": Checkpoint(), "parent": True}, "not from both"),
        ({"moments": "kept"}, "kept moments need a parent with keep_moments"),
        ({"parent": True, "start": "step7"}, r"the parent does not keep 'step7'; it keeps step10, weights"),
        ({"batch": 6, "micro_batch": 4}, "batch 6 is no multiple of micro_batch 4"),
        ({"vocabulary": 8}, "vocabulary 8 is smaller than the language's 16"),
        ({"sources": (("a", 100.0),)}, "sources are of text corpora"),
        (
            {"corpora": {"kind": "text", "upstream": "pil", "downstream": "slimpajama-627b"}},
            r"corpus 'pil' does not exist; did you mean 'pile'\?",
        ),
        ({"corpora": {"kind": "text", "upstream": "pile"}}, "downstream"),
        ({"keep": (0.001,)}, "expected shares of the run"),
        ({"keep": (1.5,)}, "expected shares of the run"),
        ({"optimizer": {"betas": (0.9, 1.0)}}, "less than 1"),
        ({"optimizer": {"clip_norm": 0.0}}, "greater than 0"),
        ({"optimizer": {"nesterov": True}}, "nesterov"),
    ],
)
def test_what_cannot_be(toy: Make, fields: dict[str, Any], said: str) -> None:
    if fields.get("parent"):
        fields = {**fields, "parent": toy(train_on="upstream", keep=(0.5,))}
    with pytest.raises(ValidationError, match=said):
        toy(**fields)


def test_impossible_schedules_and_models_are_one_line(toy: Make) -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        toy(schedule={"warmup": 1.2})
    with pytest.raises(UserError, match="did you mean '410m'"):
        toy(model="410k")
    with pytest.raises(UserError, match="multiple of 8"):
        toy(model="2x10x2")


def test_seeds_group_and_options_at_their_defaults_change_no_identity(toy: Make) -> None:
    one, two = toy(seed=0), toy(seed=1)
    assert one.group == two.group and one.identity != two.identity
    assert toy(replay=0.0, moments="fresh").identity == one.identity
    assert toy(replay=0.01).group != one.group
    # The parent's seed is part of the chain, not of the group.
    children = [toy(seed=seed, parent=toy(seed=seed, train_on="upstream")) for seed in (0, 1)]
    assert children[0].group == children[1].group


def test_the_optimizer_enters_the_identity_where_it_departs(toy: Make) -> None:
    assert toy(optimizer=Optimizer()).identity == toy().identity
    other = toy(optimizer={"weight_decay": 0.0})
    assert other.identity != toy().identity and other.description()["optimizer"] == {"weight_decay": 0.0}
    assert RewarmSettings(optimizer={"clip_norm": 0.5}).upstream(0).optimizer.clip_norm == 0.5
    assert "optimizer" in RewarmSettings(optimizer={"betas": [0.9, 0.99]}).departures()


def test_gpus_are_as_many_as_divide_the_batch(toy: Make) -> None:
    large = PretrainSpec(seed=0, corpora=PAPERS_TEXT, schedule=Schedule(max_lr=3e-4))  # 1104 = 16 x 69
    assert [large.gpus(offered) for offered in (0, 1, 2, 5, 7, 8, 16)] == [0, 1, 2, 4, 6, 8, 16]
    assert [toy().gpus(offered) for offered in (0, 1, 8)] == [0, 1, 1]
    assert [toy(sharding="shard").gpus(offered) for offered in (0, 1, 8)] == [0, 1, 4]


def test_text_of_the_neox_tokenizer_needs_it_before(toy: Make) -> None:
    assert PretrainSpec(seed=0, corpora=PAPERS_TEXT, schedule=Schedule(max_lr=1e-3)).data() == ("neox-tokenizer",)
    assert toy().data() == ()
    assert toy(corpora=Text(upstream="pile", downstream="pile", tokenizer="bpe-1024"), vocabulary=1024).data() == ()


def test_rows_by_source_are_few_and_spread() -> None:
    spec = PretrainSpec(seed=0, corpora=PAPERS_TEXT, schedule=Schedule(max_lr=3e-4), stop=0.8061)
    steps = spec.evaluation_steps()
    assert len(steps) > 1000 and len(spec.source_steps()) <= 120
    assert {0, steps[-1]} <= spec.source_steps() <= set(steps)
    short = PretrainSpec(
        seed=0, corpora=PAPERS_TEXT, schedule=Schedule(max_lr=3e-4, steps=500), evaluation=Evaluation(every=10)
    )
    assert spec.source_steps() and short.source_steps() == set(short.evaluation_steps())


def test_smoke_keeps_what_decides_the_code_and_drops_the_rest(toy: Make) -> None:
    parent = toy(train_on="upstream", keep=(0.5,), keep_moments=True)
    rates = [toy(parent=parent, schedule={"max_lr": rate}, start="step10").smoke() for rate in (1e-3, 1e-2)]
    assert rates[0].identity == rates[1].identity
    assert rates[0].start == "weights" and rates[0].parent is not None
    kept = toy(parent=parent, moments="kept", schedule={"shape": "wsd"}, replay=0.05).smoke()
    assert (kept.moments, kept.schedule.shape, kept.replay, kept.steps) == ("kept", "wsd", 0.25, 2)
    large = PretrainSpec(
        seed=4, corpora=PAPERS_TEXT, schedule=Schedule(max_lr=3e-4), checkpoint=Checkpoint(), precision="bf16"
    ).smoke()
    assert large.parameters() == 405_334_016 and large.corpora.kind == "generated"
    assert large.checkpoint is None and large.cost().memory_mb < 16_000 and large.cost().flops < 2e12
