"""The pages of the repository: every command is run (dry where it would train for long), and nothing is out of step."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from bench import exhibit
from bench.cli import main as command_line
from bench.data import sources
from bench.report import reference

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "bench/README.md", "configs/profiles/README.md", "results/README.md", "results/perf/README.md")
PAGES += ("tests/README.md",)
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Commands of the shell blocks, and those in tables that name a call of make; placeholders are left out."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if line and not line.startswith("#")]
    inline = [found for found in re.findall(r"`(make [^`]*)`", TEXT) if "path/to" not in found]
    return list(dict.fromkeys([*lines, *inline]))


@pytest.fixture(scope="module")
def extra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's own exhibit and method, as a reader would save them."""
    root = tmp_path_factory.mktemp("reader")
    for block in blocks("python"):
        name = re.match(r"# (\S+)\n", block)
        assert name, block[:60]
        path = root / name[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block)
    return root / "extra"


def made_of(command: str) -> list[list[str]]:
    """The calls of the suite that a call of make consists of."""
    answer = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *shlex.split(command)[1:]],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    text = answer.stdout.replace("\\\n", " ")
    calls = re.findall(r"^\s*(?:\w+=\S+ )*\S*python -m bench ([^&|;\n]*)", text, re.MULTILINE)
    if not calls:
        assert re.search(r"pytest|ruff|pip install|\.complete|^$", text, re.MULTILINE), text
    return [shlex.split(call) for call in calls]


def dry(arguments: list[str]) -> list[str] | None:
    """What stands for a call of the suite: itself, a dry run, or the plan of the same scale; None when it is parsed only.

    A dry run for Slurm needs the plugin that `make slurm` installs.
    """
    command, *rest = arguments
    if command == "reference":
        command, *rest = rest
        parsed = command_line.reference.commands[command].make_context(command, list(rest)).params
    else:
        parsed = command_line.bench.commands[command].make_context(command, list(rest)).params
    if (command in ("plan", "status") and "--freeze" not in rest) or (command == "run" and "--smoke" in rest):
        return arguments
    plugins = {"local"} | ({"slurm"} if find_spec("snakemake_executor_plugin_slurm") else set())
    if command == "reproduce" and parsed["profile"] in plugins and not parsed["regress"]:
        return [*arguments, "--dry-run"]
    if "scale" in parsed:
        chosen = ["--exhibits", *parsed["exhibits"]] if parsed.get("exhibits") else []
        return ["plan", "--scale", parsed["scale"], *chosen]
    return None


@pytest.fixture
def reader(extra: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process as a reader's shell in the repository, with the README's own exhibit and method."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("BENCH_EXTRA", str(extra))
    monkeypatch.setenv("BENCH_SMOKE_QUIET", "1")
    exhibit.registry.cache_clear()
    yield
    exhibit.registry.cache_clear()


@pytest.mark.parametrize("command", commands())
def test_commands_run(command: str, extra: Path, reader: None) -> None:
    words = shlex.split(command)
    if words[0] == "export":
        name, value = words[1].split("=")
        assert f"`{name}`" in TEXT and (extra.parent / value).is_dir()
        return
    if words[0] in ("uv", "pip"):
        check_installer(words)
        return
    calls = made_of(command) if words[0] == "make" else [words[words.index("bench") + 1 :]]
    assert words[0] == "make" or (words[:3] == [words[0], "-m", "bench"] and words[0].endswith("python"))
    for call in calls:
        arguments = dry(call)
        if arguments is None:
            continue
        assert command_line.main(arguments) == 0, arguments


def check_installer(words: list[str]) -> None:
    """An installer's call names what there is: files, extras of this project, versions of the lock file."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    if words[:2] == ["uv", "venv"]:
        assert Requirement(f"python{project['requires-python']}").specifier.contains(words[-1])
        return
    rest = words[words.index("install") + 1 :]
    for word in (word for word in rest if not word.startswith("--")):
        if word.startswith("."):
            found = re.fullmatch(r"\.(?:\[(.*)\])?", word)
            assert found and set((found[1] or "").split(",")) - {""} <= set(project["optional-dependencies"])
        elif "==" in word:
            assert re.search(rf"^{re.escape(word)}$", lock, re.MULTILINE)
        else:
            assert (ROOT / word).is_file()


def test_the_example_exhibit_is_judged(extra: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    monkeypatch.setenv("BENCH_EXTRA", str(extra))
    exhibit.registry.cache_clear()
    try:
        example = exhibit.registry()["warmstart/halved_weights"]
        assert len(example.runs(example.settings())) == 15
        rows = [
            {"method": method, "metric": "val_acc", "seed": seed, "value": value + 0.1 * seed**2 * step}
            for step, (method, value) in enumerate((("random_init", 60.0), ("warm_start", 50.0), ("halved", 55.0)))
            for seed in range(3)
        ]
        frame = pd.DataFrame(rows)
        assert example.claims[0].test(frame).verdict == "reproduced"
        cells = example.draw(frame, None, None)
        assert cells.to_dict("records") == [
            {"random_init": "60.0 ± 0.0", "warm_start": "50.2 ± 0.2", "halved": "55.3 ± 0.4"}
        ]
    finally:
        exhibit.registry.cache_clear()


def test_the_example_method_halves_weights(extra: Path) -> None:
    import runpy
    from types import SimpleNamespace

    import torch

    model = torch.nn.Linear(2, 1)
    before = model.weight.detach().clone()
    runpy.run_path(str(extra / "warmstart" / "methods" / "halved.py"))["restart"](SimpleNamespace(model=model))
    assert torch.equal(model.weight, before / 2)


def test_examples_in_python_say_what_they_print() -> None:
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks("pycon")), {}, "README.md", None, 0)
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_every_data_set_has_its_terms() -> None:
    table = README.split("## Data and licences")[1].split("## Cite")[0].lower().replace("-", "").replace(" ", "")
    for key in sources.catalogue():
        assert key.split("-")[0] in table, key


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def claims_of(scale: str) -> list[list[str]]:
    """Exhibit, name and statement, verdict, estimate and n of each claim on the committed page of verdicts."""
    page = (reference.folder(scale) / "verdicts.md").read_text(encoding="utf-8").split("## Claims")[1].split("\n## ")[0]
    rows = [re.split(r"(?<!\\) \| ", line.removeprefix("| ")) for line in page.splitlines() if "| **" in line]
    return [row[:5] for row in rows]


@pytest.mark.parametrize("scale", ["ci", "small", "paper-cpu"])
def test_the_results_are_those_of_the_committed_verdicts(scale: str) -> None:
    """These are generated from the records, which another test checks."""
    claims = claims_of(scale)
    for paper in reference.papers(scale):
        found = Counter(verdict for name, _, verdict, *_ in claims if name.startswith(f"{paper}/"))
        decided = [found[verdict] for verdict in ("reproduced", "not reproduced", "undecided")]
        numbers = [sum(found.values()), *decided, sum(found.values()) - sum(decided)]
        row = re.search(rf"^\| `{paper}` \| \[`{scale}`\].*?\| ([\d |]+) \|$", README, re.MULTILINE)
        assert row and [int(cell) for cell in row[1].split("|")] == numbers, (scale, paper, numbers)


def test_the_six_claims_are_those_of_the_committed_verdicts() -> None:
    claims = {(name.split("/")[0], claim.split("**")[1]): rest for name, claim, *rest in claims_of("small")}
    rows = re.findall(r"^\| `(\w+)` (\w+): .*\| (\S+ \[.*?\]) \| (\d+) \| (.+) \|$", README, re.MULTILINE)
    assert len(rows) == 6
    for paper, name, estimate, n, verdict in rows:
        assert claims[paper, name] == [verdict, estimate, n], name


def test_the_scales_with_a_reference_can_be_read() -> None:
    for scale in reference.scales():
        assert set(reference.notes(scale)) == set(reference.papers(scale))


def test_the_citation_file_has_what_it_needs() -> None:
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version"} <= set(content)
    from bench import __version__

    assert content["version"] == __version__ and len(content["references"]) == 3


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_workflow_files_call_what_there_is(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert True in content or "on" in content  # YAML 1.1 reads the key `on` as true
    makefile = (ROOT / "Makefile").read_text()
    for job in content["jobs"].values():
        assert job["timeout-minutes"] and job["runs-on"]
        for step in job["steps"]:
            for line in step.get("run", "").splitlines():
                if line.startswith("make "):
                    assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line
                if line.startswith(".ci/"):
                    assert os.access(ROOT / line, os.X_OK)
    assert shutil.which("make")
