"""report.zip opens offline and finds every exhibit by paper, with caption, code and parameters."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.mark.slow
def test_the_archive_opens_offline_and_finds_every_exhibit(
    bench, invented: Path, results: Path, tmp_path: Path
) -> None:
    answer = bench("reproduce", "--scale", str(invented))
    assert answer.returncode == 0, answer.stderr[-2000:]
    with zipfile.ZipFile(results / "toy" / "report.zip") as archive:
        archive.extractall(tmp_path)
    page = tmp_path / "report" / "report.html"
    text = page.read_text()
    assert not re.search(r"""<(?:script|img|link|iframe)[^>]*(?:src|href)=["']?(?:https?:)?//""", text)
    for expected in ("Distance by drift", "Mean distance from the start.", "Position by step.", "drifts = [0.1, 0.2]"):
        assert expected in text
    # Snakemake shows a rule's code highlighted, word by word.
    assert "tests/papers/invented/exhibits/distance.py" in text and "-m bench draw" in re.sub(r"<[^<>]*>", "", text)
    files = {path.name for path in (tmp_path / "report" / "data").rglob("*") if path.is_file()}
    assert {"distance.md", "curve.png", "index.html", "paper.pdf"} <= files
    if BROWSER is None:
        pytest.skip("the archive is complete; no Chromium here to open it")
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom")
    shown = subprocess.run([BROWSER, *options, page.as_uri()], capture_output=True, text=True, timeout=120).stdout
    menu = re.sub(r"<script.*?</script>", "", shown, flags=re.DOTALL)
    assert "invented" in menu and "Verdicts" in menu and "Report" in menu
