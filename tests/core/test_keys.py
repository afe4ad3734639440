"""A key follows the specification and the code that can change a run's numbers, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bench.workflow import keys

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "sample_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "a.py").write_text('"""Docs."""\nfrom sample_package import b\n\n\ndef f(x):\n    return b.g(x)\n')
    (folder / "b.py").write_text("def g(x):\n    return x + 1\n")
    (folder / "c.py").write_text("def h(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.startswith("sample_package")]:
        del sys.modules[name]


def fresh(module: str) -> str:
    for cached in (keys._source, keys._parsed, keys._linked, keys.fingerprint):
        cached.cache_clear()
    return keys.fingerprint(module)


def test_code_of_an_import_changes_it_and_comments_do_not(package: Path) -> None:
    before = fresh("sample_package.a")
    (package / "b.py").write_text('# why\ndef g(x):\n    """Adds."""\n\n    return x + 1  # one\n')
    assert fresh("sample_package.a") == before
    (package / "c.py").write_text("def h(x):\n    return -x\n")
    assert fresh("sample_package.a") == before
    (package / "b.py").write_text("def g(x):\n    return x + 2\n")
    assert fresh("sample_package.a") != before


def test_following_imports_imports_nothing() -> None:
    """A dry run would pay seconds for torch otherwise: names in modules are not asked for as modules."""
    code = (
        "import sys; from bench.workflow import keys; modules = keys.dependencies('bench.warmstart.train'); "
        "print('bench.training.step' in modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stderr


EDITS = '''
import importlib, json, sys
from pathlib import Path
import bench
from bench import config, exhibit, models
from bench.workflow import keys, plan

root = Path(bench.__file__).parent
specs = [run.spec for run in plan.make(config.load("ci")).runs.values()]

parsed = {}

def reading(path):
    if path not in parsed:
        parsed[path] = keys.parse(path.read_bytes())
    return parsed[path]

keys._parsed = reading

def current():
    for cached in (keys._linked, keys.fingerprint):
        cached.cache_clear()
    return [keys.key_of(spec) for spec in specs]

before = current()
assert before == current()

def changed():
    return [number for number, (old, new) in enumerate(zip(before, current(), strict=True)) if old != new]

def appended(name):
    path = root / name
    content = path.read_bytes()
    parsed[path] = keys.parse(content + b"\\nCHANGED = 1\\n")
    try:
        return changed()
    finally:
        del parsed[path]

def renamed(paper):
    """As `git mv` and an editor do it: the file, the pointer, and the imports of others."""
    kinds = {kind for spec in specs for kind in map(type, spec.chain()) if kind.trainer == f"bench.{paper}.train"}
    (root / paper / "train.py").rename(root / paper / "teach.py")
    for path in root.rglob("*.py"):
        path.write_bytes(path.read_bytes().replace(f"bench.{paper}.train".encode(), f"bench.{paper}.teach".encode()))
    for kind in kinds:
        kind.trainer = f"bench.{paper}.teach"
    parsed.clear()
    keys._source.cache_clear()
    importlib.invalidate_caches()
    return changed()

def networks(spec):
    return sorted(module for ancestor in spec.chain() for module in ancestor.code())

edited = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
print(json.dumps({
    "papers": [spec.kind.split("/")[0].split(".")[-1] for spec in specs],
    "kinds": [sorted({ancestor.trainer for ancestor in spec.chain()}) for spec in specs],
    "code": [networks(spec) for spec in specs],
    "appended": {name: appended(name) for name in edited},
    "renamed": {paper: renamed(paper) for paper in ("warmstart", "rewarm", "certified")},
}))
'''


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Runs of scale ci whose key each edit of a copy of the suite changes, by number."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("bench", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BENCH_")}
    environment |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", EDITS], cwd=copy, env=environment, capture_output=True, encoding="utf-8", timeout=280
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def papers_of(edits: dict[str, Any], runs: Iterable[int]) -> set[str]:
    """Papers all of whose runs are among `runs`; no other paper's run may be."""
    chosen = {edits["papers"][run] for run in runs}
    assert set(runs) == {run for run, paper in enumerate(edits["papers"]) if paper in chosen}
    return chosen


@pytest.mark.parametrize(
    "part",
    ["data/fetch.py", "training/context.py", "machine.py", "checkpoint.py", "words.py", "cli/", "workflow/", "report/"],
)
def test_downloads_progress_locks_and_printing_change_no_key(edits: dict[str, Any], part: str) -> None:
    names = [name for name in edits["appended"] if name.startswith(part)]
    assert names and not [name for name in names if edits["appended"][name]]


def test_exhibits_and_settings_change_no_key(edits: dict[str, Any]) -> None:
    """What they make of a specification enters the key as data."""
    names = [name for name in edits["appended"] if "/exhibits/" in name or name.endswith(("/design.py", "/spec.py"))]
    assert len(names) > 50 and not [name for name in names if edits["appended"][name]]


def test_a_trainers_file_may_be_renamed(edits: dict[str, Any]) -> None:
    assert edits["renamed"] == {"warmstart": [], "rewarm": [], "certified": []}


def test_a_trainer_changes_the_keys_of_its_paper(edits: dict[str, Any]) -> None:
    for paper in edits["renamed"]:
        changed = edits["appended"][f"{paper}/train.py"]
        assert {edits["papers"][run] for run in changed} == {paper}
        trained = [run for run, trainers in enumerate(edits["kinds"]) if f"bench.{paper}.train" in trainers]
        assert trained and set(trained) <= set(changed)


def test_no_file_of_a_paper_changes_keys_of_another(edits: dict[str, Any]) -> None:
    for name, changed in edits["appended"].items():
        if (folder := name.split("/")[0]) in edits["renamed"]:
            assert {edits["papers"][run] for run in changed} <= {folder}, name


def test_a_model_changes_the_keys_of_runs_that_have_it(edits: dict[str, Any]) -> None:
    for name in ("mlp", "resnet", "cnn7", "resnext"):
        module = f"bench.models.{name}"
        having = [run for run, code in enumerate(edits["code"]) if module in code]
        assert having and edits["appended"][f"models/{name}.py"] == having, name
    pretraining = [run for run, trainers in enumerate(edits["kinds"]) if "bench.rewarm.train" in trainers]
    assert edits["appended"]["models/neox.py"] == pretraining


def test_a_data_reader_changes_the_keys_of_papers_that_read_with_it(edits: dict[str, Any]) -> None:
    assert papers_of(edits, edits["appended"]["data/images.py"]) == {"warmstart", "certified"}
    assert papers_of(edits, edits["appended"]["data/augment.py"]) <= {"warmstart", "certified"}
    assert papers_of(edits, edits["appended"]["data/languages.py"]) == {"rewarm"}
    assert papers_of(edits, edits["appended"]["seeds.py"]) == {"warmstart", "rewarm", "certified"}


SYNTAX = b'''
"""Docstring."""
from __future__ import annotations
import os.path as p  # comment

class A(B, metaclass=M):
    """Docstring."""
    x: int = 1

    @staticmethod
    async def f(a, /, b=None, *c: int, d=2, **e) -> str:
        """Docstring."""
        return f"{a!r:>{b}} {d=} %" "tail" + u"u" if a else (lambda: ...)()

def g(x): return x
'''


def test_every_cpython_gives_the_same_digest() -> None:
    """The value was the same under CPython 3.11, 3.12 and 3.13: records come home from a machine with another one."""
    assert keys.parse(SYNTAX) == (
        "207a2240f34c2e156bd700d9475ce2a5b160b21fb0a1e6fa7ed48c8e3cb74dd7",
        (("__future__", "annotations", "annotations"), ("os.path", "", "p")),
    )


def test_a_renamed_module_is_the_same_code_and_another_one_behind_a_name_is_not(package: Path) -> None:
    (package / "d.py").write_text("def g(x):\n    return x + 1\n\n\ndef other():\n    pass\n")
    (package / "a.py").write_text("from sample_package.b import g\nfrom sample_package import d\n\nf = g\n")
    before = fresh("sample_package.a")
    (package / "b.py").rename(package / "e.py")
    (package / "a.py").write_text("from sample_package import d\nfrom sample_package.e import g\n\nf = g\n")
    assert fresh("sample_package.a") == before
    # Both modules count already: only what stands behind `g` is another.
    (package / "a.py").write_text("from sample_package import d, e\nfrom sample_package.e import g\n\nf = g\n")
    both = fresh("sample_package.a")
    (package / "a.py").write_text("from sample_package import d, e\nfrom sample_package.d import g\n\nf = g\n")
    assert len({before, both, fresh("sample_package.a")}) == 3
