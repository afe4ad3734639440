"""The fingerprint follows code, and only code that a run depends on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.workflow import keys


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
    for cached in (keys._source, keys._parsed, keys.fingerprint):
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


def test_a_kernel_belongs_to_the_module_beside_it(package: Path) -> None:
    before, other = fresh("sample_package.a"), fresh("sample_package.c")
    (package / "b.cpp").write_text("int g(int x) { return x + 1; }\n")
    added = fresh("sample_package.a")
    (package / "b.cpp").write_text("int g(int x) { return x + 2; }\n")
    assert len({before, added, fresh("sample_package.a")}) == 3
    assert fresh("sample_package.c") == other


def test_papers_do_not_depend_on_one_another() -> None:
    trainers = {"warmstart": "rounds", "certified": "train", "rewarm": "pretrain"}
    for paper, module in trainers.items():
        found = keys.dependencies(f"bench.{paper}.{module}")
        others = [name for name in found for other in trainers if other != paper and name.startswith(f"bench.{other}")]
        assert f"bench.{paper}.{module}" in found
        assert not others


def test_following_imports_imports_nothing() -> None:
    """A dry run would pay seconds for torch otherwise: names in modules are not asked for as modules."""
    code = (
        "import sys; from bench import provenance; found = keys.dependencies('bench.warmstart.train'); "
        "print('bench.training.step' in found, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stderr


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
        "f966f6d64cf60e92901a1a31251f0879c352ab4a5c7786440341de856e5000dc",
        ("__future__", "__future__.annotations", "os.path"),
    )


def test_what_was_parsed_is_kept_and_never_trusted_for_another_content(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "cache" / "parsed.json"
    monkeypatch.setattr(keys, "PARSED", kept)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    keys._kept.cache_clear()
    before = fresh("sample_package.a")
    assert kept.exists()

    def unasked(source: bytes) -> keys.Parsed:
        raise AssertionError("parsed again")

    with monkeypatch.context() as patch:
        patch.setattr(keys, "parse", unasked)
        keys._kept.cache_clear()
        assert fresh("sample_package.a") == before
    (package / "b.py").write_text("def g(x):\n    return x + 2\n")
    changed = fresh("sample_package.a")
    assert changed != before
    kept.write_text("{broken")
    keys._kept.cache_clear()
    assert fresh("sample_package.a") == changed
    keys._kept.cache_clear()
