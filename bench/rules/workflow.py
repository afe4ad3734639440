"""What the rules ask: files of the frozen plan. Pure look-ups; nothing here imports torch, pandas or pyplot."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from bench import plan
from bench.paths import Layout

WHOLE_MACHINE = 1000
"""Amount of the resource `machine` that there is on one machine; a job that may have company takes 1."""
AT_ONCE = 1_000_000
"""Priority over all training, in minutes: exhibits are drawn while others are still trained."""
SUFFIXES = {"figure": ("csv", "pdf", "png"), "table": ("csv", "tex", "md")}


@dataclass(frozen=True)
class Frozen:
    """A frozen plan as Snakemake sees it.

    Attributes:
        root: ``results/<scale>``.
        content: what `bench.plan.freeze` wrote.
    """

    root: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, path: str) -> Frozen:
        """Reads ``results/<scale>/plan.json``.

        Raises:
            UserError: the plan has not been made.
        """
        return cls(Path(path).parent, plan.frozen(Path(path)))

    @property
    def scale(self) -> str:
        """What ``--scale`` gets: the name or path that the plan was made for."""
        return self.content["source"]

    def path(self, *parts: str) -> str:
        """A file below the results. All machines see it there: where a cluster has a storage of its own, it is left out."""
        from snakemake.io import local

        return local(str(self.root.joinpath(*parts)))

    @cached_property
    def _batches(self) -> dict[str, dict[str, Any]]:
        return {batch["name"]: batch for batch in self.content["batches"]}

    @cached_property
    def _batch_of(self) -> dict[str, str]:
        return {key: batch["name"] for batch in self.content["batches"] for key in batch["keys"]}

    def marker(self, batch: str) -> str:
        """Says that a batch, or "data", is done. It may be in a cluster's storage: a job with local files runs locally."""
        return str(Layout(self.scale, self.root).marker(batch))

    def markers(self) -> list[str]:
        """Of all batches: what is missing, whether or not exhibits have been drawn without it."""
        return [self.marker(batch) for batch in self._batches]

    def before(self, batch: str) -> list[str]:
        """Markers of the batches whose artefacts this one starts from."""
        return [self.marker(name) for name in self._batches[batch]["after"]]

    def batch(self, name: str) -> dict[str, Any]:
        return self._batches[name]

    def records(self, wildcards: Any) -> list[str]:
        """What an exhibit waits for: batches with its missing runs, and the records that are there already."""
        keys = self.content["exhibits"][wildcards.exhibit]["keys"]
        missing = {self._batch_of[key] for key in keys if key in self._batch_of}
        present = [self.path("runs", f"{key}.json") for key in keys if key not in self._batch_of]
        return sorted(self.marker(batch) for batch in missing) + present

    def version(self, wildcards: Any) -> str:
        """Changes when an exhibit must be drawn again: its runs, its settings or the code that draws it."""
        text = json.dumps(self.content["exhibits"][wildcards.exhibit], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def title(self, wildcards: Any) -> str:
        return self.content["exhibits"][wildcards.exhibit]["title"]

    def caption(self, wildcards: Any) -> str:
        return self.content["exhibits"][wildcards.exhibit]["caption"]

    def declared(self, wildcards: Any) -> str:
        """The file that declares the exhibit: its code, for the browsable report."""
        return self.content["exhibits"][wildcards.exhibit]["file"]

    def settings(self, wildcards: Any) -> str:
        """The exhibit's settings at this scale, ``key = value`` each."""
        settings = self.content["exhibits"][wildcards.exhibit]["settings"]
        return "; ".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())

    def category(self, wildcards: Any) -> str:
        return wildcards.exhibit.split("/")[0]

    def labels(self, wildcards: Any) -> dict[str, str]:
        return {"exhibit": wildcards.exhibit.split("/")[1], "title": self.title(wildcards)}

    def names(self, kind: str | None = None) -> list[str]:
        return [name for name, facts in self.content["exhibits"].items() if kind in (None, facts["kind"])]

    def constraint(self, kind: str | None = None) -> str:
        """Regular expression of the exhibits of a kind, for wildcards."""
        return "|".join(self.names(kind)) or "none"

    def exhibit_files(self) -> list[str]:
        return [
            self.path("exhibits", f"{name}.{suffix}")
            for name, facts in self.content["exhibits"].items()
            for suffix in SUFFIXES[facts["kind"]]
        ]

    def tables(self) -> list[str]:
        return [self.path("tables", f"{name}.parquet") for name in self.names()]

    def share(self, batch: str) -> int:
        """Of the resource `machine`: all of it for a batch that no other job may run beside."""
        return WHOLE_MACHINE if self._batches[batch]["whole_machine"] else 1

    def priority(self, batch: str) -> float:
        """Minutes until all that waits for the batch could be done. Snakemake starts the highest first, so that the last
        jobs to end are short."""
        return self._chains[batch]

    @cached_property
    def _chains(self) -> dict[str, float]:
        after = {name: batch["after"] for name, batch in self._batches.items()}
        chains = {name: batch["minutes"] for name, batch in self._batches.items()}
        for name in reversed([*TopologicalSorter(after).static_order()]):
            for parent in after[name]:
                chains[parent] = max(chains[parent], self._batches[parent]["minutes"] + chains[name])
        return chains

    def runtime(self, batch: str, attempt: int) -> int:
        """Minutes to ask for: three times the estimate and a start, doubled with each attempt."""
        return int((3 * self._batches[batch]["minutes"] + 10) * 2 ** (attempt - 1))
