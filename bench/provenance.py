"""Where a result comes from: the code that it depends on, the commit, the machine."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from bench import paths

PACKAGES = ("torch", "torchvision", "numpy", "transformers", "auto-LiRPA")


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


def canonical(node: Any) -> str:
    """A syntax tree as text, the same from every CPython: ``ast.dump`` gains fields and drops empty ones over time."""
    if isinstance(node, ast.AST):
        if isinstance(node, ast.JoinedStr):  # 3.12 puts an empty text where there is none
            node.values = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
        fields = ((name, getattr(node, name, None)) for name in node._fields)
        told = ",".join(f"{name}={canonical(value)}" for name, value in fields if value is not None and value != [])
        return f"{type(node).__name__}({told})"
    return f"[{','.join(map(canonical, node))}]" if isinstance(node, list) else repr(node)


class Parsed(NamedTuple):
    """Hash of a file's syntax tree without comments and docstrings, and the modules that it imports."""

    digest: str
    imports: tuple[str, ...]


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


PARSED = Path(__file__).parent / "__pycache__" / "parsed.json"
"""What `parse` said of a content, kept as compiled modules are: to parse the suite takes half a second."""


@lru_cache(maxsize=1)
def _kept() -> dict[str, Parsed]:
    """Hash of a content and of this file -> what `parse` said; empty where nothing can be read."""
    try:
        stored = json.loads(PARSED.read_text())
        return {name: Parsed(digest, tuple(imports)) for name, (digest, imports) in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep() -> None:
    """Writes what has been parsed; a folder that cannot be written to costs time only."""
    newest = dict(list(_kept().items())[-1000:])
    text = json.dumps(newest)
    try:
        PARSED.parent.mkdir(exist_ok=True)
        part = PARSED.with_suffix(f".{os.getpid()}")
        part.write_text(text)
        part.replace(PARSED)
    except OSError:
        return


@lru_cache(maxsize=1)
def _parser() -> bytes:
    return Path(__file__).read_bytes()


@lru_cache(maxsize=512)
def _parsed(path: Path) -> Parsed:
    content = path.read_bytes()
    name = hashlib.sha256(_parser() + content).hexdigest()
    if name not in _kept():
        _kept()[name] = parse(content)
    return _kept()[name]


def dependencies(module: str) -> tuple[str, ...]:
    """`module` and all modules of its own package and of the suite that it imports, directly or not, sorted."""
    tops = {module.split(".")[0], "bench"}
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name) if name.split(".")[0] in tops else None
        if name in seen or path is None:
            continue
        seen.add(name)
        waiting += _parsed(path).imports
    return tuple(sorted(seen))


# How a run is announced, timed, stored or named cannot change what it computes. What a specification says enters the
# key as data; that no default changes without a new version is kept by a test.
NEUTRAL = frozenset(
    f"bench.{name}"
    for name in (
        "checkpoint",
        "config",
        "errors",
        "paths",
        "provenance",
        "record",
        "run",
        "training.context",
        "wording",
    )
) | {"bench"}


def _neutral(module: str) -> bool:
    return module in NEUTRAL or module.endswith(".spec")


@lru_cache(maxsize=512)
def fingerprint(*modules: str) -> str:
    """Eight hexadecimal digits that change when code of `modules`, or of what they import, does.

    Comments, docstrings and layout do not enter it.
    """
    known = len(_kept())
    names = sorted({name for module in modules for name in dependencies(module) if not _neutral(name)})
    found = [(name, path) for name in names if (path := _source(name)) is not None]
    lines = [f"{name} {_parsed(path).digest}" for name, path in found]
    # A module's kernel lies beside it.
    kernels = [(name, path.with_suffix(".cpp")) for name, path in found]
    lines += [f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for name, path in kernels if path.exists()]
    if len(_kept()) > known and not sys.dont_write_bytecode:
        _keep()
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(paths.PROJECT), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


@lru_cache(maxsize=1)
def commit() -> dict[str, Any]:
    """The git commit and whether tracked files were as committed; ``None`` where there is no git."""
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": _git("rev-parse", "HEAD"), "clean": None if status is None else status == ""}


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cpu_flags() -> set[str]:
    """Features of the processor under Linux's names (``flags`` on x86-64, ``Features`` on aarch64); empty elsewhere."""
    try:
        with open("/proc/cpuinfo") as stream:
            for line in stream:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    return set(value.split())
    except OSError:
        pass
    return set()


class Usage(NamedTuple):
    """Seconds on the clock, of CPU time of the whole machine (``None`` where it does not say), and of this process."""

    wall: float
    machine: float | None
    own: float


def usage() -> Usage:
    """What has been used so far; the machine's part is Linux's sum over all cores without idle time."""
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
        idle = fields[3] + fields[4]
        busy = (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return Usage(time.monotonic(), None, own)
    return Usage(time.monotonic(), busy, own)


OTHERS = 0.1
"""Cores that other processes may use before a run no longer has the machine to itself."""


def alone_since(before: Usage) -> bool:
    """Whether other processes have used next to nothing of this machine's cores since then; False if unknown."""
    now = usage()
    if before.machine is None or now.machine is None:
        return False
    others = (now.machine - before.machine) - (now.own - before.own)
    return others < OTHERS * (now.wall - before.wall) + 0.1  # ticks are hundredths of a second on each core


def _status_mb(field: str) -> float | None:
    """A size from what Linux says of this process, MiB."""
    status = Path("/proc/self/status")
    found = re.search(rf"^{field}:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(found[1]) / 2**10 if found else None


def resident_mb() -> float:
    """MiB that this process holds now; 0 where it cannot be known."""
    return _status_mb("VmRSS") or 0.0


def peak_memory_mb() -> float:
    """MiB that this process took at most; 0 where it cannot be known.

    What getrusage says begins, on Linux, at what the process that started this one had taken.
    """
    if (peak := _status_mb("VmHWM")) is not None:
        return peak
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def machine() -> dict[str, Any]:
    """The machine without its name: processor, cores; when torch was imported already GPUs and vector units.

    Rented processors bear one name whatever they can do. By their vector units sums are rounded in another order, and
    by whether there is a C++ compiler for the kernels of the suite's own.
    """
    gpus, units = [], None
    torch = sys.modules.get("torch")
    if torch is not None:
        units = torch.backends.cpu.get_cpu_capability()
        if torch.cuda.is_available():
            gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": processor(),
        "vector_units": units,
        "compiler": shutil.which("g++") is not None,
        "cores": os.cpu_count(),
        "gpus": gpus,
        "python": platform.python_version(),
        "system": platform.system(),
    }
