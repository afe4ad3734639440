"""The key of a run: its specification, and the code that can change its numbers. Nothing is imported to find it."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import UserError
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
    """``<identity>-<code>``: the specification with its parents, and the code that trains them.

    Raises:
        UserError: a specification names code that does not exist.
    """
    modules = {module for ancestor in spec.chain() for module in (ancestor.trainer, *ancestor.code())}
    for module in modules:
        if not module or _source(module) is None:
            raise UserError(
                f"{type(spec).__name__}: its trainer, or code, is the module '{module}', which does not exist"
            )
    return f"{spec.identity}-{fingerprint(*sorted(modules))}"


@lru_cache(maxsize=512)
def fingerprint(*modules: str) -> str:
    """Eight hexadecimal digits that change when code of `modules`, or of what they import, does.

    Comments, docstrings, layout and the names of files and modules do not enter it.
    """
    names = sorted({name for module in modules for name in dependencies(module)})
    return _digest("\n".join(sorted(_linked(name) for name in names)))[:8]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=512)
def _linked(module: str) -> str:
    """Hash of a module's code and of what stands behind the names that it imports."""
    path = _source(module)
    assert path is not None
    code = _parsed(path)
    links = (f"{_behind(module, imported)} {imported.name} {imported.local}" for imported in code.imports)
    return _digest("\n".join([code.digest, *sorted(links)]))


def _behind(module: str, imported: Imported) -> str:
    """A module of the suite by its code, so that it may be renamed; a neutral one by nothing, others by their name."""
    for name in imported.modules():
        if name.split(".")[0] in _tops(module) and (path := _source(name)) is not None:
            return "" if _neutral(name) else _parsed(path).digest
    return imported.module


def _tops(module: str) -> set[str]:
    """Packages whose code counts: the suite, and that of the module itself."""
    return {module.split(".")[0], "bench"}


def dependencies(module: str) -> tuple[str, ...]:
    """`module` and the modules of its own package and of the suite that it imports, directly or not, sorted.

    Neutral modules are left out with what only they import.
    """
    tops = _tops(module)
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or _neutral(name) or name.split(".")[0] not in tops:
            continue
        path = _source(name)
        if path is not None:
            seen.add(name)
            waiting += (name for imported in _parsed(path).imports for name in imported.modules())
    return tuple(sorted(seen))


def _neutral(module: str) -> bool:
    return module in NEUTRAL or module.endswith(".spec")


@lru_cache(maxsize=512)
def _source(module: str) -> Path | None:
    parent = module.rpartition(".")[0]
    if parent and (above := _source(parent)) is not None and above.name != "__init__.py":
        return None  # a name in a module: to ask for it as a module would import its parent, and torch with it
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


class Imported(NamedTuple):
    """A name that a module imports: from which module ("" for that itself), and its name here."""

    module: str
    name: str
    local: str

    def modules(self) -> tuple[str, ...]:
        """What may stand behind it: a module of a package, or a name in a module."""
        return (f"{self.module}.{self.name}", self.module) if self.name else (self.module,)


class Parsed(NamedTuple):
    """Hash of a file's syntax tree without comments, docstrings and imports, and what it imports."""

    digest: str
    imports: tuple[Imported, ...]


@lru_cache(maxsize=512)
def _parsed(path: Path) -> Parsed:
    return parse(path.read_bytes())


def parse(source: bytes) -> Parsed:
    """A module's code, and what it imports.

    Raises:
        SyntaxError: it is not Python.
    """
    tree = ast.parse(source)
    imports = []
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            imports += [Imported(alias.name, "", alias.asname or alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            imports += [Imported(module, alias.name, alias.asname or alias.name) for alias in node.names]
    return Parsed(_digest(canonical(_without_docstrings_and_imports(tree))), tuple(sorted(set(imports))))


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements below `tree`; no expression holds one, so that most nodes need not be looked at."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            yield from _statements(child)


def _without_docstrings_and_imports(tree: ast.Module) -> ast.Module:
    for node in [tree, *_statements(tree)]:
        for name in ("body", "orelse", "finalbody"):
            if isinstance(statements := getattr(node, name, None), list):
                setattr(node, name, [statement for statement in statements if not _left_out(statement)])
    return tree


def _left_out(statement: ast.stmt) -> bool:
    """A docstring, or another constant that does nothing; an import."""
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Import | ast.ImportFrom)


def canonical(node: Any) -> str:
    """A syntax tree as text, the same from every CPython: ``ast.dump`` gains fields and drops empty ones over time."""
    if isinstance(node, ast.AST):
        if isinstance(node, ast.JoinedStr):  # 3.12 puts an empty text where there is none
            node.values = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
        fields = ((name, getattr(node, name, None)) for name in node._fields)
        texts = ",".join(f"{name}={canonical(value)}" for name, value in fields if value is not None and value != [])
        return f"{type(node).__name__}({texts})"
    return f"[{','.join(map(canonical, node))}]" if isinstance(node, list) else repr(node)
