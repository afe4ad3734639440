"""The key of a run: its specification, and the code that can change its numbers. Nothing is imported to find it."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from bench.run import RunSpec

NEUTRAL = frozenset(
    f"bench.{name}"
    for name in (
        "checkpoint",
        "config",
        "data.fetch",
        "errors",
        "machine",
        "paths",
        "record",
        "run",
        "training.context",
        "words",
    )
) | {"bench"}
"""Modules that cannot change a number: how a run is announced, timed, stored or locked, and how data are fetched, since
they are checked by their sha256. What a specification says enters the key as data; that no default changes without a new
version is kept by a test."""


def key_of(spec: RunSpec) -> str:
    """``<identity>-<code>``: the specification with its parents, and the code that trains them."""
    modules = {module for ancestor in spec.chain() for module in (ancestor.trainer, *ancestor.code())}
    return f"{spec.identity}-{fingerprint(*sorted(modules))}"


@lru_cache(maxsize=512)
def fingerprint(*modules: str) -> str:
    """Eight hexadecimal digits that change when code of `modules`, or of what they import, does.

    Comments, docstrings, layout and the names of the files do not enter it.
    """
    names = sorted({name for module in modules for name in dependencies(module)})
    digests = sorted(_parsed(path).digest for name in names if (path := _source(name)) is not None)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:8]


def dependencies(module: str) -> tuple[str, ...]:
    """`module` and the modules of its own package and of the suite that it imports, directly or not, sorted.

    Neutral modules are left out with what only they import.
    """
    tops = {module.split(".")[0], "bench"}
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or _neutral(name) or name.split(".")[0] not in tops:
            continue
        path = _source(name)
        if path is not None:
            seen.add(name)
            waiting += _parsed(path).imports
    return tuple(sorted(seen))


def _neutral(module: str) -> bool:
    return module in NEUTRAL or module.endswith(".spec")


@lru_cache(maxsize=512)
def _source(module: str) -> Path | None:
    parent = module.rpartition(".")[0]
    if parent and (above := _source(parent)) is not None and above.name != "__init__.py":
        return None  # a name in a module: to ask for it as a module would import its parent, and torch with it
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(found.origin) if found is not None and found.origin is not None else None


class Parsed(NamedTuple):
    """Hash of a file's syntax tree without comments and docstrings, and the modules that it imports."""

    digest: str
    imports: tuple[str, ...]


@lru_cache(maxsize=512)
def _parsed(path: Path) -> Parsed:
    return parse(path.read_bytes())


def parse(source: bytes) -> Parsed:
    """What a module's code is, and what it imports.

    Raises:
        SyntaxError: it is not Python.
    """
    tree = ast.parse(source)
    imported = []
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    digest = hashlib.sha256(canonical(_without_docstrings(tree)).encode()).hexdigest()
    return Parsed(digest, tuple(sorted(set(imported))))


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements below `tree`; no expression holds one, so that most nodes need not be looked at."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            yield from _statements(child)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in [tree, *_statements(tree)]:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [
                statement
                for statement in node.body
                if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            ]
    return tree


def canonical(node: Any) -> str:
    """A syntax tree as text, the same from every CPython: ``ast.dump`` gains fields and drops empty ones over time."""
    if isinstance(node, ast.AST):
        if isinstance(node, ast.JoinedStr):  # 3.12 puts an empty text where there is none
            node.values = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
        fields = ((name, getattr(node, name, None)) for name in node._fields)
        texts = ",".join(f"{name}={canonical(value)}" for name, value in fields if value is not None and value != [])
        return f"{type(node).__name__}({texts})"
    return f"[{','.join(map(canonical, node))}]" if isinstance(node, list) else repr(node)
