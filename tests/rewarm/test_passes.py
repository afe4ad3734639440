"""What runs are trained on: the paper's corpora, departures from them, passes over each source, warnings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import config
from bench.data import text
from bench.report import plan_text
from bench.rewarm import passes
from bench.rewarm.design import CONTINUATIONS, LONG, SAME, RewarmSettings
from bench.rewarm.exhibits import table1
from bench.rewarm.spec import PAPERS_TEXT, PretrainSpec, Text
from bench.rewarm.train import train
from bench.workflow import plan

SIX = Text(upstream="pile-uncopyrighted", downstream="slimpajama-6b")


@pytest.fixture(autouse=True)
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))


def long_run(**settings: Any) -> PretrainSpec:
    return CONTINUATIONS["L3"].spec(RewarmSettings(**settings), 0)


def test_the_papers_runs_repeat_what_the_paper_repeats(tmp_path: Path) -> None:
    """Table 1's tokens: CommonCrawl 1.05 times by 239.3 B tokens (bench/rewarm/protocol.md, section c)."""
    counts = passes.passes(long_run(), tmp_path)
    assert counts.keys() == {"slimpajama-627b"}
    assert counts["slimpajama-627b"]["CommonCrawl"] == pytest.approx(1.05, abs=0.005)
    assert counts["slimpajama-627b"]["Wikipedia"] == pytest.approx(0.045 * 239.3 / 11.78, rel=1e-3)
    assert not passes.warnings(counts)


def test_a_sample_is_passed_fifty_times(tmp_path: Path) -> None:
    counts = passes.passes(long_run(corpora=SIX), tmp_path)
    assert counts["slimpajama-6b"]["CommonCrawl"] == pytest.approx(51, abs=1)
    (warning,) = passes.warnings(counts)
    assert warning.startswith("WARNING") and "CommonCrawl 51 times" in warning


def test_replay_parents_and_mixtures_count(tmp_path: Path) -> None:
    settings = RewarmSettings(start="trained", mixture={"C4": 100.0})
    spec = settings.downstream(0, SAME, 0.01, LONG, replay=0.25)
    tokens = spec.steps * spec.tokens_per_step
    counts = passes.passes(spec, tmp_path)
    assert counts["slimpajama-627b"] == {"C4": pytest.approx(0.75 * tokens / 78.49e9)}
    assert counts["pile"]["Pile"] == pytest.approx((299.893e9 + 0.25 * tokens) / 300e9, rel=1e-4)
    assert passes.tokens(spec) == pytest.approx({"slimpajama-627b": 0.75 * tokens, "pile": 299.893e9 + 0.25 * tokens})


def test_generated_languages_have_no_end(toy: Callable[..., PretrainSpec], tmp_path: Path) -> None:
    assert passes.passes(toy(), tmp_path) == passes.notes(toy(), tmp_path) == {}
    assert PretrainSpec.remarks([toy()]) == []


def test_the_plan_says_what_is_trained_on_and_what_departs(results: Path) -> None:
    planned = plan.make(config.load("paper"), ["rewarm"])
    lines = plan_text.as_text(planned).splitlines()
    (departure,) = [line for line in lines if line.startswith("  rewarm ") and "->" in line]
    assert "upstream: pile," in departure and "upstream: pile-uncopyrighted" in departure
    downstream, upstream = (line for line in lines if "passes over its sources" in line)
    assert "slimpajama-627b" in downstream and "239.3 B tokens" in downstream and "CommonCrawl 1.05" in downstream
    assert "without Books3" in upstream and "Pile 1.33" in upstream
    assert not [line for line in lines if "WARNING" in line]
    shown = json.loads(plan_text.as_json(planned))["exhibits"]
    (remark,) = next(entry for entry in shown if entry["name"] == "rewarm/fig5")["remarks"]
    assert "50.0 B tokens" in remark and "Pile 0.22" in remark


def test_the_plan_warns_of_a_sample(results: Path) -> None:
    suite = config.load("paper").model_copy(update={"common": {"rewarm": {"corpora": SIX.model_dump()}}})
    lines = plan_text.as_text(plan.make(suite, ["rewarm/fig2"])).splitlines()
    assert any("downstream: slimpajama-6b" in line and "->" in line for line in lines)
    assert any("WARNING: slimpajama-6b" in line and "CommonCrawl 51 times" in line for line in lines)


@pytest.mark.parametrize(
    ("corpora", "figures", "table"),
    [
        (PAPERS_TEXT, True, True),
        (PAPERS_TEXT.model_copy(update={"upstream": "pile-uncopyrighted"}), False, True),
        (PAPERS_TEXT.model_copy(update={"downstream": "slimpajama-6b"}), False, False),
        (SIX, False, False),
    ],
)
def test_only_the_papers_text_gives_the_papers_numbers(corpora: Text, figures: bool, table: bool) -> None:
    assert RewarmSettings(corpora=corpora).at_protocol() is figures
    assert RewarmSettings(corpora=corpora).same_losses is figures
    assert table1.Settings(corpora=corpora).at_protocol() is table
    assert not table1.Settings(corpora=corpora, batch=8).at_protocol()


def test_the_papers_text_is_named_in_the_identity() -> None:
    """So that a record of the text that an earlier version took for the paper's is not taken for one of this."""
    assert long_run().description()["corpora"] == {"upstream": "pile", "downstream": "slimpajama-627b"}


def test_records_hold_the_passes_and_warnings(
    toy: Callable[..., PretrainSpec],
    context: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    one = text.Corpus("one", "raw", (text.Files("one.jsonl", "a"),), (text.Files("one.jsonl", "a"),), title="toy")
    monkeypatch.setattr(text, "CORPORA", {"one": one, "text-upstream": one})
    (tmp_path / "raw").mkdir()
    row = json.dumps({"text": "warm up and down again. " * 20})
    (tmp_path / "raw" / "one.jsonl").write_text(f"{row}\n" * 2)
    corpora = Text(upstream="one", downstream="one", tokenizer="bpe-300", validation_tokens=50)
    spec = toy(corpora=corpora, vocabulary=300)
    notes = train(spec, context(spec)).notes
    tokens = text.token_counts(tmp_path, "bpe-300", "one")["a"]["train"]
    assert notes["passes"] == {"one": {"a": pytest.approx(20 * 48 / tokens, rel=5e-3)}}
    assert notes["passes"]["one"]["a"] > passes.MOST and "WARNING: one" in notes["warnings"][0]
