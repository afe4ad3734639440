"""The lock file pins what the project declares, the packages here agree with one another, and `make env` can be killed."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKED = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
STALE = re.compile(r"auto-lirpa 0\.3 .*")
"""auto-LiRPA 0.3 demands an old torch and test tools that it does not import."""


def test_the_installed_packages_agree_with_one_another() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check", "--disable-pip-version-check"], capture_output=True, text=True
    )
    lines = [line for line in done.stdout.splitlines() if not STALE.fullmatch(line)]
    assert lines in ([], ["No broken requirements found."])


def test_the_lock_pins_all_that_the_project_declares() -> None:
    pins = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in LOCKED}
    for text in (*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())):
        declared = Requirement(text)
        if declared.name != PROJECT["name"]:
            assert declared.specifier.contains(pins[canonicalize_name(declared.name)]), text


def test_the_lock_names_packages_and_versions_only() -> None:
    line = re.compile(r'[A-Za-z0-9-]+==[0-9][0-9A-Za-z.]*(; sys_platform == "(linux|darwin)")?')
    lines = [text for text in (ROOT / "requirements.lock").read_text().splitlines() if not text.startswith("#")]
    assert [text for text in lines if not line.fullmatch(text)] == []
    names = [text.split("==")[0].lower() for text in lines]
    assert names == sorted(set(names))


def test_macos_gets_no_cuda() -> None:
    on_mac = [pin.name for pin in LOCKED if pin.marker is None or pin.marker.evaluate({"sys_platform": "darwin"})]
    assert "torch" in on_mac
    assert not [name for name in on_mac if name.startswith(("nvidia", "cuda", "triton"))]


def make_env(folder: Path, maker: str) -> subprocess.CompletedProcess[str]:
    """`make env` in `folder`, where the process `maker` is said to be making the environment; no Python runs."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").mkdir()
    (folder / ".venv" / ".incomplete").write_text(f"{maker}\n")
    return subprocess.run(["make", "env", "PYTHON=false"], cwd=folder, capture_output=True, text=True)


def test_two_makes_do_not_install_at_once(tmp_path: Path) -> None:
    refused = make_env(tmp_path, str(os.getpid()))
    assert refused.returncode != 0
    assert f"process {os.getpid()} is making" in refused.stderr
    assert (tmp_path / ".venv" / ".incomplete").exists()


def test_an_installation_that_was_killed_starts_afresh(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    refused = make_env(tmp_path, str(ended.pid))
    assert "starting afresh" in refused.stdout
    assert "no venv module" in refused.stderr
