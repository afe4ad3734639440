"""The house: imports point down, papers stand alone, Snakemake parses without torch, and words keep one meaning."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import exhibit

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
SHARED = {"data", "models", "training"}
ALLOWED = {
    "root": set(),
    "data": {"models"},
    "models": set(),
    "training": {"data", "models"},
    "workflow": {"training", "data"},
    "report": {"workflow", "training", "data"},
    "perf": {"workflow", "report", *SHARED, "papers"},
    "cli": {"workflow", "report", "perf", *SHARED, "papers"},
}
"""Folder -> folders that its modules may import, beside the root and their own. Papers are told apart in a test below."""
BANNED = {
    "company",
    "course",
    "turns",
    "solo",
    "freed",
    "fused",
    "cells",
    "split",
    "program",
    "utils",
    "helpers",
    "common",
}


def papers() -> list[str]:
    return [path.parent.name for path in BENCH.glob("*/exhibits")]


def modules() -> Iterator[tuple[str, str, Path]]:
    """Folder below bench ("root" for its own modules), dotted name, file."""
    for path in sorted(BENCH.rglob("*.py")):
        parts = path.relative_to(BENCH).with_suffix("").parts
        yield parts[0] if len(parts) > 1 else "root", ".".join(("bench", *parts)), path


def imported(path: Path) -> Iterator[str]:
    """Modules of the suite that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("bench"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bench":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def folder_of(name: str) -> str:
    part = name.split(".")[1]
    return part if (BENCH / part).is_dir() else "root"


def test_imports_point_down() -> None:
    wrong = []
    for folder, name, path in modules():
        if folder in papers() or name == "bench.__main__":
            continue
        allowed = ALLOWED[folder] | {folder, "root"}
        for other in imported(path):
            above = folder_of(other)
            if ("papers" if above in papers() else above) not in allowed:
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_papers_import_no_other_paper_and_nothing_above_them() -> None:
    wrong = []
    for folder, name, path in modules():
        if folder not in papers():
            continue
        for other in imported(path):
            above = folder_of(other)
            drawing = above == "report" and other.split(".")[2] in ("figure", "table", "words")
            if above not in {folder, "root", *SHARED} and not (drawing and ".exhibits." in name):
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_the_core_names_no_paper() -> None:
    named = [
        f"{name}: {line.strip()}"
        for folder, name, path in modules()
        if folder in ("root", "workflow", "training", "models")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(rf"[\"'](bench\.)?({'|'.join(papers())})[\"'.]", line)
    ]
    assert not named, "\n".join(named)


@pytest.mark.parametrize("module", ["bench.workflow.planfile", "bench.workflow.plan", "bench.cli.main"])
def test_what_snakemake_and_the_command_line_import_first_is_light(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'pandas', 'matplotlib', 'scipy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_planning_imports_no_torch() -> None:
    code = (
        "import sys; from bench import config; from bench.workflow import plan; plan.make(config.load('ci'));"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "False", done.stdout + done.stderr


def test_no_module_or_class_has_a_private_word_for_a_name() -> None:
    wrong = [name for _, name, _ in modules() if name.rpartition(".")[2].strip("_") in BANNED]
    for _, name, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name.strip("_").lower() in BANNED:
                wrong.append(f"{name}.{node.name}")
    assert not wrong, wrong


def test_papers_have_the_same_files() -> None:
    for paper in papers():
        lacking = [
            name
            for name in ("protocol.md", "spec.py", "design.py", "train.py", "published.csv")
            if not (BENCH / paper / name).is_file()
        ]
        assert not lacking, f"{paper} lacks {lacking}"


def test_claims_have_names_of_their_own_within_an_exhibit() -> None:
    for chosen in exhibit.registry().values():
        names = [claim.name for claim in chosen.claims]
        assert len(names) == len(set(names)), chosen.name
