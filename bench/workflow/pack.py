"""Moves records and resumable state between machines as checksummed archives in parts."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

from bench import checkpoint, record
from bench.errors import UserError
from bench.paths import Layout

CARRIED = ("runs", "artefacts", "scratch", "seeds.json", "decisions.json")
"""Records, weights that children need, states that interrupted runs resume from, and which exhibits have further seeds."""


def _files(layout: Layout) -> list[Path]:
    paths = (path for name in CARRIED for path in (layout.root / name, *sorted((layout.root / name).rglob("*"))))
    return [path for path in paths if path.is_file() and path.suffix not in (".lock", ".part")]


def pack(layout: Layout, into: Path, *, part_bytes: int = 16_000_000) -> list[Path]:
    """Writes ``<scale>.tar.000`` … and ``<scale>.parts.json`` with their checksums; returns the written files.

    Raises:
        UserError: there is nothing to pack, or the parts would be too small.
    """
    files = _files(layout)
    if not files:
        raise UserError(f"{layout.root}: has no records and no state to pack; run something first")
    if part_bytes < 1000:
        raise UserError(f"parts of {part_bytes} bytes: expected at least 1,000")
    into.mkdir(parents=True, exist_ok=True)
    for old in into.glob(f"{layout.scale}.tar.[0-9][0-9][0-9]"):
        old.unlink()
    written: list[Path] = []
    digests: dict[str, str] = {}
    with tempfile.TemporaryFile(dir=into) as stream:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for path in files:
                archive.add(path, arcname=str(path.relative_to(layout.root)), recursive=False)
        stream.seek(0)
        while content := stream.read(part_bytes):
            path = into / f"{layout.scale}.tar.{len(written):03d}"
            checkpoint.write_bytes(path, content)
            digests[path.name] = hashlib.sha256(content).hexdigest()
            written.append(path)
    manifest = into / f"{layout.scale}.parts.json"
    checkpoint.write_text(manifest, json.dumps({"scale": layout.scale, "parts": digests}, indent=1) + "\n")
    return [*written, manifest]


def unpack(layout: Layout, origin: Path) -> int:
    """Restores packed files below ``results/<scale>``; existing records stay. Returns the number of files.

    Raises:
        UserError: a part is missing or altered, or the archive wants to write elsewhere.
    """
    manifest = origin / f"{layout.scale}.parts.json"
    try:
        parts: dict[str, str] = json.loads(manifest.read_text(encoding="utf-8"))["parts"]
    except FileNotFoundError as error:
        raise UserError(f"{manifest}: no such file; name the folder that `bench pack` wrote this scale into") from error
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{manifest}: not the list of parts of scale {layout.scale} ({error})") from error
    layout.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=layout.root) as folder, tempfile.TemporaryFile(dir=layout.root) as stream:
        for name, digest in parts.items():
            path = origin / Path(name).name
            if not path.is_file():
                raise UserError(f"{path}: part is missing; bring all {len(parts)} parts")
            if checkpoint.sha256(path) != digest:
                raise UserError(f"{path}: checksum differs from {manifest.name}; carry this part again")
            stream.write(path.read_bytes())
        stream.seek(0)
        try:
            with tarfile.open(fileobj=stream, mode="r") as archive:
                archive.extractall(folder, filter="data")
        except tarfile.TarError as error:
            raise UserError(f"{origin}: not an archive of this suite ({error})") from error
        return _move(Path(folder), layout)


def _move(source: Path, layout: Layout) -> int:
    count = 0
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if not path.is_file() or relative.parts[0] not in CARRIED:
            continue
        target = layout.root / relative
        if relative.parts[0] == "runs" and path.suffix == ".json":
            record.read(path)  # an altered record is refused before it can stand for a run
            if target.exists():
                continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
        count += 1
    return count
