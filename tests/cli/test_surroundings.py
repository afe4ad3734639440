"""The command line in odd surroundings: another user, another folder, another locale, odd names, odd variables."""

from __future__ import annotations

import ast
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import exhibit, paths
from bench.cli.main import main

ROOT = paths.PROJECT
pytestmark = pytest.mark.timeout(1000)  # a process imports torch and more, which takes long on a busy machine
STRANGER = 54321
"""A user id without an account."""
Answer = subprocess.CompletedProcess[str]
Call = Callable[..., Answer]


def environment(**changes: str | None) -> dict[str, str]:
    """This environment with the suite importable from any folder; ``None`` removes a variable."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | changes
    return {name: value for name, value in variables.items() if value is not None}


COMMANDS = """
import json, sys
from bench.cli.main import main
for words in json.loads(sys.argv[1]):
    print(f"exit code {main(words)}", file=sys.stderr)
"""


def call(folder: Path, *commands: str, prefix: tuple[str, ...] = (), **changes: str | None) -> Answer:
    """Calls of the command line, one after the other in one process; each one's exit code stands below its errors."""
    words = json.dumps([shlex.split(command) for command in commands])
    answer = subprocess.run(
        [*prefix, sys.executable, "-c", COMMANDS, words],
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=900,
    )
    assert answer.returncode == 0 and "Traceback" not in answer.stderr, answer.stderr
    return answer


def succeeds(answer: Answer, commands: int) -> None:
    assert answer.stderr.count("exit code 0") == answer.stderr.count("exit code") == commands, answer.stderr


@pytest.fixture
def scale(invented: Path) -> str:
    return str(invented)


@pytest.fixture
def stranger() -> Iterator[tuple[Path, Call]]:
    """A folder of a user without an account, and the command line called by that user there.

    Who runs the tests may have an interpreter that only root can read: the stranger may read everything, and write as
    any other user.
    """
    reads = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    prefix = ("setpriv", "--reuid", str(STRANGER), "--regid", str(STRANGER), "--clear-groups", *reads)
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root may become another user (with setpriv)")
    if subprocess.run([*prefix, "true"], capture_output=True).returncode != 0:
        pytest.skip("setpriv may not keep a capability here")
    folder = Path(tempfile.mkdtemp())  # not below root's own folder, as pytest's are: access(2) knows no capabilities
    os.chown(folder, STRANGER, STRANGER)
    names = dict.fromkeys(("USER", "LOGNAME", "USERNAME", "LNAME", "BENCH_RESULTS", "XDG_CACHE_HOME", "MPLCONFIGDIR"))

    def as_stranger(*commands: str, **changes: str | None) -> Answer:
        return call(folder, *commands, prefix=prefix, **{**names, "HOME": None, "TMPDIR": str(folder), **changes})

    yield folder, as_stranger
    shutil.rmtree(folder)


def test_a_user_id_without_an_account_trains_and_draws(stranger: tuple[Path, Call], scale: str) -> None:
    folder, bench = stranger
    steps = ("run --limit 6", "collect", "draw", "judge", "status")
    answer = bench("doctor", *(f"{words} --scale {scale}" for words in steps))
    succeeds(answer, 6)
    assert len(list((folder / "results/toy/runs").glob("*.json"))) == 6
    assert "Matplotlib" not in answer.stderr
    assert f"user id {STRANGER} has no account" in answer.stdout and "home folder" in answer.stdout


@pytest.mark.slow
def test_a_user_id_without_an_account_reproduces(stranger: tuple[Path, Call], scale: str) -> None:
    folder, bench = stranger
    succeeds(bench(f"reproduce --scale {scale}"), 1)
    assert (folder / "results/toy/paper.pdf").exists()


def test_a_home_that_cannot_be_written(stranger: tuple[Path, Call], scale: str) -> None:
    folder, bench = stranger
    home = folder / "home"
    home.mkdir(mode=0o755)
    answer = bench(*(f"{words} --scale {scale}" for words in ("run --limit 1", "collect", "draw")), HOME=str(home))
    succeeds(answer, 3)
    assert not list(home.iterdir()) and "Matplotlib" not in answer.stderr


def test_a_folder_of_somebody_else_is_one_line(stranger: tuple[Path, Call], scale: str) -> None:
    folder, bench = stranger
    succeeds(bench(f"run --scale {scale} --limit 1"), 1)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 0, 0)
    calls = ("plan", "status", "plan --freeze", "reproduce", "pack --into carried", "run --limit 1")
    answer = bench(*(f"{words} --scale {scale}" for words in calls), TMPDIR="/tmp")
    lines = answer.stderr.splitlines()
    assert lines[:2] == ["exit code 0", "exit code 0"], "what only reads goes on"
    for line, code, word in zip(
        lines[2::2], lines[3::2], ("results", "not writable", "carried", "results"), strict=True
    ):
        assert code == "exit code 2" and line.startswith("error: ") and word in line


@pytest.mark.parametrize("name", ["elsewhere", 'it\'s "odd" {b} [1] * #2 & é %s $HOME a:b ~'])
def test_another_folder_of_any_name(name: str, scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("BENCH_RESULTS")
    monkeypatch.setenv("BENCH_DATA", str(folder / "data"))
    for words in ("plan --freeze", "run --limit 3", "collect", "draw", "judge", "paper", "status"):
        assert main([*words.split(), "--scale", scale]) == 0
    assert len(list((folder / "results/toy/runs").glob("*.json"))) == 3
    assert (folder / "results/toy/verdicts.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["elsewhere", 'it\'s "odd" [1] #2 & é %s $HOME ~'])
def test_reproducing_in_another_folder(scale: str, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    succeeds(call(folder, f"reproduce --scale {scale}", BENCH_RESULTS=str(folder / "results")), 1)
    assert (folder / "results/toy/paper.pdf").exists() and (folder / "results/toy/report.zip").exists()


SCALE = """\
scale: toy
about: "λ ≥ 0,5 — größer ⚠"
device: cpu
only: [invented/distance, invented/curve]
common:
  invented: {seeds: 2}
"""

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None}


def made_under(folder: Path, **locale: str | None) -> dict[str, bytes]:
    """Text files that the steps of the workflow write under a locale, as the invented paper with a scale in UTF-8."""
    folder.mkdir()
    (folder / "toy.yaml").write_text(SCALE, encoding="utf-8")
    commands = ("plan", "run", "run", "collect", "draw", "judge", "paper", "status")
    succeeds(call(folder, *(f"{words} --scale ./toy.yaml" for words in commands), BENCH_RESULTS=None, **locale), 8)
    root = folder / "results/toy"
    assert (root / "paper.pdf").exists()
    written = [*root.glob("*.md"), *root.glob("*.html"), *root.glob("*.csv"), *root.glob("exhibits/invented/*.*")]
    texts = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in written
        if path.suffix in (".md", ".html", ".csv", ".tex")
    }
    texts["label"] = json.loads(next((root / "runs").glob("*.json")).read_text(encoding="utf-8"))["label"].encode()
    return texts


def opens_text(node: ast.AST) -> bool:
    """Whether a call opens text by the locale. The linter sees only those whose object it knows to be a path."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
        return False
    keywords = {keyword.arg for keyword in node.keywords}
    name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
    if name in ("run", "Popen", "check_output"):
        return bool({"text", "universal_newlines"} & keywords) and "encoding" not in keywords
    ours = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "checkpoint"
    return name in ("read_text", "write_text") and "encoding" not in keywords and not ours


def test_every_text_file_is_opened_as_utf_8() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "bench").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if opens_text(node)
    ]
    assert wrong == []


@pytest.fixture
def expected(invented: Path, tmp_path: Path) -> dict[str, bytes]:
    texts = made_under(tmp_path / "utf8", LC_ALL="C.UTF-8", PYTHONUTF8="1")
    assert not texts["index.html"].isascii()
    return texts


def test_a_locale_of_ascii_changes_no_file(expected: dict[str, bytes], tmp_path: Path) -> None:
    assert made_under(tmp_path / "ascii", **ASCII) == expected


@pytest.mark.slow
def test_a_locale_of_iso_8859_1_changes_no_file(expected: dict[str, bytes], tmp_path: Path) -> None:
    locales = tmp_path / "locales"
    locales.mkdir()
    if shutil.which("localedef") is None:
        pytest.skip("no localedef")
    name = "en_US.ISO-8859-1"
    compiled = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(locales / name)], capture_output=True, text=True
    )
    if not (locales / name).exists():
        pytest.skip(f"localedef: {compiled.stderr.strip()}")
    latin = {"LC_ALL": name, "LOCPATH": str(locales), "PYTHONUTF8": "0", "PYTHONIOENCODING": None}
    probe = "import locale; print(locale.getpreferredencoding(False))"
    seen = subprocess.run([sys.executable, "-c", probe], env=environment(**latin), capture_output=True, text=True)
    assert seen.stdout.strip().lower() in ("iso-8859-1", "iso8859-1")
    assert made_under(tmp_path / "latin", **latin) == expected


def test_letters_that_a_terminal_lacks_are_escaped(invented: Path, tmp_path: Path) -> None:
    (tmp_path / "größer.yaml").write_text(SCALE + "größe: 1\n", encoding="utf-8")
    answer = call(tmp_path, "plan --scale ./größer.yaml", LC_ALL="C.UTF-8", PYTHONIOENCODING="ascii")
    line, code = answer.stderr.splitlines()
    assert code == "exit code 2" and line.startswith("error: ") and "gr\\xf6" in line


@pytest.mark.parametrize("variable", ["BENCH_RESULTS", "BENCH_DATA", "BENCH_REFERENCE"])
def test_an_empty_variable_is_as_none(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function = {"BENCH_RESULTS": "results_root", "BENCH_DATA": "data_root", "BENCH_REFERENCE": "reference_root"}
    monkeypatch.delenv(variable, raising=False)
    without = getattr(paths, function[variable])()
    monkeypatch.setenv(variable, "")
    assert getattr(paths, function[variable])() == without != Path(".")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("BENCH_CHECKPOINT_SECONDS", "abc", "run"),
        ("BENCH_EXTRA", "/nowhere/at/all", "plan"),
        *(("BENCH_RESULTS", "/dev/null/x", words) for words in ("plan --freeze", "run", "reproduce")),
    ],
)
def test_a_variable_that_makes_no_sense_is_one_line(
    scale: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    words: str,
) -> None:
    monkeypatch.setenv(variable, value)
    exhibit.registry.cache_clear()
    assert main([*words.split(), "--scale", scale]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and value in line
