"""Table 1: sources of the downstream corpus, sampling weights and tokens.

The authors drew a random part of SlimPajama of 296.86 B training tokens, which is also the length of the schedule; their
draw is unpublished, so any part of each source's documents stands for it. Tokens are counted in the tokenised shards, ends
of documents included; nothing is trained.

Expected (printed): CommonCrawl 67 % and 153.25 B tokens, C4 15 % and 78.49 B, five more of 2 to 4.5 %. A sampling weight is
not a share of tokens: over the schedule CommonCrawl is passed through 1.3 times, the others less than 1.13 times.
Cost: reading the text and tokenising it once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bench.exhibit import Arm, ArmRun, Row, row
from bench.record import Record
from bench.report.table import compare
from bench.rewarm.counts import CountSpec
from bench.rewarm.design import SAME, SHORT, RewarmSettings
from bench.rewarm.spec import PAPERS_TEXT, Generated, Text

if TYPE_CHECKING:
    import pandas as pd

CAPTION = (
    "Percent of the training sequences that are drawn from each source, tokens of the training and validation text, and "
    "how often the schedule passes through them, with the paper's numbers in brackets (its passes are derived). The "
    "paper's own part of SlimPajama is unpublished."
)
MARGINS = {"sampling_percent": 0.1, "train_tokens": 0.5, "val_tokens": 1.0}

TOTAL = "Total"
WITHOUT = re.compile(r" ± 0\.0+(?= |$)|– (?=\[)")
"""The spread of counts that every seed shares, and the sign for nothing of ours beside a published number."""
SEVEN = "7-source mixture"
"""The mixture that the table lists; the authors' configuration may have had five sources."""


class Settings(RewarmSettings):
    seeds: int = Field(2, ge=1, le=1000, description="training streams in which the sources are counted")

    def at_protocol(self) -> bool:
        """Of the corpora the table shows the downstream one alone."""
        same = isinstance(self.corpora, Text) and self.corpora.downstream == PAPERS_TEXT.downstream
        return not set(self.departures()) - self.selects - ({"corpora"} if same else set())


def counted(settings: Settings, seed: int) -> CountSpec:
    shape = settings.downstream(0, SAME, 0.01, SHORT, start="random").shape
    return CountSpec(
        seed=seed,
        corpora=settings.corpora,
        mixture=tuple(settings.mixture.items()),
        vocabulary=shape.vocabulary,
        context=shape.context,
        sequences=settings.schedule_steps * settings.batch,
    )


def arms(settings: Settings) -> Iterator[Arm]:
    yield Arm({}, partial(counted, settings))


def _downstream(record: Record) -> list[dict[str, Any]]:
    """The sources of the downstream corpus, which the paper's table lists."""
    columns = record.series["sources"]
    lines = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [line for line in lines if line["corpus"] == lines[-1]["corpus"]]


def rows(run: ArmRun, record: Record) -> Iterator[Row]:
    lines = _downstream(record)
    drawn = float(record.result.notes["sequences"]) * float(record.result.notes["context"])
    total = {name: sum(line[name] for line in lines) for name in ("drawn", "train", "val")}
    for line in (*lines, {**total, "source": TOTAL}):
        source = {"dataset": line["source"]}
        yield row(run, "sampling_percent", line["drawn"], **source)
        yield row(run, "train_tokens", line["train"] / 1e9, **source)
        yield row(run, "val_tokens", line["val"] / 1e6, **source)
        if line["train"]:
            yield row(run, "epochs_drawn", line["drawn"] / 100 * drawn / line["train"], **source)
    for metric, value in record.metrics.items():
        yield row(run, metric, value)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    import pandas as pd

    # Over the whole schedule, the longest of the lengths for which passes were derived.
    passes = published[(published["metric"] == "epochs_drawn") & (published["method"] == SEVEN)].sort_values("x")
    printed = published[published["provenance"] == "printed"]
    theirs = pd.concat([printed, passes.drop_duplicates("dataset", keep="last")])
    unit, sign = settings.unit()
    scaled = frame.assign(value=frame["value"].where(frame["metric"] != "train_tokens", frame["value"] * 1e9 / unit))
    columns = {
        "sampling (%)": ("sampling_percent", 2),
        f"train tokens ({sign}{'' if sign == 'B' else ' [B]'})": ("train_tokens", 2),
        "val. tokens (M)": ("val_tokens", 2 if sign == "B" else 3),
        "passes": ("epochs_drawn", 2),
    }
    sources = [name for name in (*printed["dataset"], *frame["dataset"]) if name not in ("", TOTAL)]
    lines = []
    for source in (*dict.fromkeys(sources), TOTAL):
        cells = {
            head: compare(scaled, theirs, metric=metric, digits=digits, printed=2, dataset=source)
            for head, (metric, digits) in columns.items()
        }
        lines.append({"source": source, **{head: WITHOUT.sub("", text) for head, text in cells.items()}})
    divergence = frame[frame["metric"] == "divergence"]["value"]
    if len(divergence):
        name = "languages" if isinstance(settings.corpora, Generated) else "corpora"
        remark = f"Jensen-Shannon divergence of the tokens of both {name}: {divergence.iloc[0]:.3g} nats"
        lines.append({**dict.fromkeys(lines[0], ""), "source": remark})
    return pd.DataFrame(lines)
