"""The code that decides what a function says: itself, and what it reaches in the modules of its own paper."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from bench.workflow import keys


class Names(NamedTuple):
    """The top-level names of a module.

    Attributes:
        definitions: name -> the functions, classes and assignments that bind it.
        imports: name -> (module, name in it, or "" for the module itself), wherever in the file it is imported.
    """

    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, tuple[str, str]]


def digest(module: str, name: str) -> str:
    """Sixteen hexadecimal digits that change with the code of a function, or with what it reaches.

    Comments, docstrings, annotations and decorators do not enter it. Where the module does not define the name, as for a
    lambda, the whole module stands for it.

    Args:
        module: dotted name.
        name: of a function at its top level.
    """
    if name not in names_of(module).definitions:
        return keys.fingerprint(module)
    reached: dict[tuple[str, str], str] = {}
    _reach(module, name, ".".join(module.split(".")[:2]), reached)
    return hashlib.sha256("\n".join(sorted(reached.values())).encode()).hexdigest()[:16]


def _reach(module: str, name: str, paper: str, reached: dict[tuple[str, str], str]) -> None:
    if (module, name) in reached or name not in names_of(module).definitions:
        return
    reached[module, name], mentioned = _definition(module, name)
    imports = names_of(module).imports
    for other, attribute in mentioned:
        if other not in imports:
            _reach(module, other, paper, reached)
            continue
        source, inside = imports[other]
        if source.startswith(f"{paper}.") or (source == paper and inside):
            if inside and _is_module(f"{source}.{inside}"):
                source, inside = f"{source}.{inside}", ""
            _reach(source, inside or attribute, paper, reached)


@lru_cache(maxsize=4096)
def _definition(module: str, name: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """What binds a name, as text, and the names that it uses."""
    nodes = [_plain(node) for node in names_of(module).definitions[name]]
    return " ".join(keys.canonical(node) for node in nodes), frozenset(
        pair for node in nodes for pair in _mentioned(node)
    )


def _mentioned(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Names that are used, each with the attribute that is taken of it, or ""."""
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name):
            yield child.value.id, child.attr
        elif isinstance(child, ast.Name):
            yield child.id, ""


def _plain(node: ast.stmt) -> ast.stmt:
    """A definition without what does not change its result; the tree was parsed for this alone and is changed in place."""
    for child in ast.walk(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            child.decorator_list, child.returns = [], None
            for argument in (*child.args.posonlyargs, *child.args.args, *child.args.kwonlyargs):
                argument.annotation = None
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            body = [
                part for part in child.body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]
            child.body = body or [ast.Pass()]
    return node


@lru_cache(maxsize=256)
def names_of(module: str) -> Names:
    """The top-level names of a module, read without importing it."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return Names({}, {})
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    definitions: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        for name in _bound(node):
            definitions.setdefault(name, []).append(node)
    imports: dict[str, tuple[str, str]] = {}
    for child in ast.walk(tree):
        if isinstance(child, ast.ImportFrom) and child.module and not child.level:
            imports |= {alias.asname or alias.name: (child.module, alias.name) for alias in child.names}
        elif isinstance(child, ast.Import):
            imports |= {alias.asname: (alias.name, "") for alias in child.names if alias.asname}
    return Names(definitions, imports)


def _bound(node: ast.stmt) -> list[str]:
    """Names that a statement at the top level binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [child.id for target in targets for child in ast.walk(target) if isinstance(child, ast.Name)]


@lru_cache(maxsize=1024)
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
