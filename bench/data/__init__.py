"""Images, text and generated data, as the trainers read them."""

from __future__ import annotations

from pathlib import Path


def ensure(name: str, root: Path) -> None:
    """Makes sure that a data set is there before any run starts; generated ones need nothing.

    Raises:
        UserError: it is absent and cannot be fetched, or a file of it is altered.
    """
    from bench.data import fetch, sources

    if name in sources.catalogue():
        fetch.ensure(name, root)
