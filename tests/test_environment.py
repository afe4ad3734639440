"""The lock file is complete, and consistent with what the packages say that they need, on every platform."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

PLATFORMS = {
    "linux x86_64": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    "linux aarch64": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    "darwin arm64": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
}
PYTHONS = ("3.11", "3.12", "3.13")
# auto-LiRPA 0.3 demands torch < 1.13 and test tools that it does not import; only this is needed to run it.
STALE = {"auto-lirpa": ("appdirs", "numpy", "torch", "torchvision")}


def locked(environment: dict[str, str]) -> dict[str, str]:
    """Versions that the lock gives an environment, by canonical name."""
    found = {}
    for line in LOCK.read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (pin,) = requirement.specifier
            if requirement.marker is None or requirement.marker.evaluate(environment):
                found[canonicalize_name(requirement.name)] = pin.version
    return found


@lru_cache(maxsize=1)
def installed() -> dict[str, Distribution]:
    return {canonicalize_name(found.metadata["Name"]): found for found in distributions()}


def environment(platform: str, python: str) -> dict[str, str]:
    return {
        **PLATFORMS[platform],
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "python_version": python,
        "python_full_version": f"{python}.9",
        "implementation_version": f"{python}.9",
        "platform_release": "",
        "platform_version": "",
        "extra": "",
    }


@lru_cache(maxsize=1000)
def declared_needs(name: str) -> list[Requirement]:
    """All that a distribution may need, by its own metadata."""
    return [Requirement(text) for text in STALE.get(name) or installed()[name].requires or ()]


def needs(name: str, extras: frozenset[str], where: dict[str, str]) -> Iterator[Requirement]:
    """What a distribution needs in an environment."""
    for requirement in declared_needs(name):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**where, "extra": extra}) for extra in ("", *extras)):
            yield requirement


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_lock_is_closed_under_what_its_packages_need(platform: str, python: str) -> None:
    where = environment(platform, python)
    pins = locked(where)
    if absent := sorted(set(pins) - set(installed())):
        pytest.skip(f"not installed here, so their needs are unknown: {', '.join(absent)}")
    # Optional parts that the lock's packages ask of one another, such as cuda-toolkit[cudart].
    waiting = [(name, frozenset[str]()) for name in pins]
    seen = set(waiting)
    wrong = []
    while waiting:
        name, extras = waiting.pop()
        for requirement in needs(name, extras, where):
            needed = canonicalize_name(requirement.name)
            if needed not in pins:
                wrong.append(f"{name} needs {requirement}, which is absent")
            elif not requirement.specifier.contains(pins[needed], prereleases=True):
                wrong.append(f"{name} needs {requirement}, locked is {pins[needed]}")
            elif (key := (needed, frozenset(requirement.extras))) not in seen:
                seen.add(key)
                waiting.append(key)
    assert wrong == []


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locked_versions_run_on_every_python(python: str) -> None:
    refusing = []
    for name in locked(environment("linux x86_64", python)):
        wanted = installed()[name].metadata["Requires-Python"] if name in installed() else None
        if wanted and f"{python}.9" not in SpecifierSet(wanted):
            refusing.append(f"{name} wants Python {wanted}")
    assert refusing == []


def test_the_lock_pins_all_that_the_project_declares() -> None:
    pins = locked(environment("linux x86_64", "3.11"))
    declared = [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]
    for text in declared:
        requirement = Requirement(text)
        if requirement.name == PROJECT["name"]:
            continue
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def test_the_pinned_pair_and_the_accepted_releases_of_torch() -> None:
    pins = locked(environment("linux x86_64", "3.11"))
    assert (pins["torch"], pins["torchvision"], pins["auto-lirpa"]) == ("2.12.1", "0.27.1", "0.3")
    accepted = next(Requirement(text).specifier for text in PROJECT["dependencies"] if text.startswith("torch"))
    assert [minor for minor in range(9, 16) if accepted.contains(f"2.{minor}.0")] == [11, 12, 13]


def test_macos_gets_no_cuda() -> None:
    names = locked(environment("darwin arm64", "3.13"))
    assert "torch" in names
    assert not [name for name in names if name.startswith(("nvidia", "cuda", "triton"))]


def test_the_lock_names_packages_and_versions_only() -> None:
    line = re.compile(r'[A-Za-z0-9-]+==[0-9][0-9A-Za-z.]*(; sys_platform == "(linux|darwin)")?')
    lines = [text for text in LOCK.read_text().splitlines() if not text.startswith("#")]
    assert [text for text in lines if not line.fullmatch(text)] == []
    names = [text.split("==")[0].lower() for text in lines]
    assert names == sorted(set(names))


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
    assert f"process {os.getpid()} is making .venv; run this again when it has ended" in refused.stderr
    assert (tmp_path / ".venv" / ".incomplete").exists()


def test_an_installation_that_was_killed_starts_afresh(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    refused = make_env(tmp_path, str(ended.pid))
    assert ".venv is incomplete: starting afresh" in refused.stdout
    assert "false has no venv module" in refused.stderr
