"""Where data sets come from: ``sources.yaml`` as validated values."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from bench.errors import UserError, closest
from bench.run import StrictModel

CATALOGUE = Path(__file__).parent / "sources.yaml"

Checksum = Annotated[str, StringConstraints(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")]


def _below(path: str) -> str:
    """Below the data folder: no absolute path and no way out of it."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("expected a path below the data folder")
    return path


Below = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]+$"), AfterValidator(_below)]


class Download(StrictModel):
    """One file on a server."""

    name: Below = Field(description="path below the data folder under which it is kept")
    bytes: int = Field(gt=0, description="length")
    checksum: Checksum = Field(description="md5:… or sha256:…, verified before the file is used")
    unpack: Literal["tar", "zip", "gzip"] | None = Field(None, description="how it is packed; gzip holds one file")
    urls: tuple[str, ...] = Field(min_length=1, description="official address first, then mirrors")


class Hub(StrictModel):
    """A dataset repository of the Hugging Face hub, from which files are streamed at one commit."""

    repository: str = Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$", description="OWNER/NAME")
    revision: str = Field(
        pattern=r"^([0-9a-f]{7,40}|main)$", description="commit; main for the one that the first fetch finds"
    )


class Source(StrictModel):
    """A data set: the files that it must have, and where they may be had."""

    title: str = Field(description="name for people")
    home: str = Field(description="page that offers it")
    files: dict[Below, Checksum | Literal["any"]] = Field(
        default_factory=dict, description="path below the data folder -> checksum"
    )
    downloads: tuple[Download, ...] = Field((), description="what brings the files")
    hub: Hub | None = Field(None, description="repository from which a text corpus is streamed")
    mirror: Hub | None = Field(None, description="repository with the same text, where the first cannot be reached")


@lru_cache(maxsize=8)
def catalogue(path: Path = CATALOGUE) -> dict[str, Source]:
    """All sources by name."""
    import yaml

    contents = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: Source.model_validate(content) for name, content in contents.items()}


def source(name: str, path: Path = CATALOGUE) -> Source:
    """The source of a data set.

    Raises:
        UserError: there is none of that name.
    """
    known = catalogue(path)
    if name not in known:
        raise UserError(f"data set '{name}' does not exist{closest(name, known)}")
    return known[name]


def digest(path: Path, checksum: str) -> str:
    """Checksum of a file in the algorithm of `checksum`, written alike: ``md5:…``."""
    algorithm = checksum.split(":")[0]
    with path.open("rb") as stream:
        return f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}"
