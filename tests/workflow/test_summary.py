"""What `reproduce` says at its end."""

from __future__ import annotations

from pathlib import Path

from bench.paths import Layout
from bench.workflow import summary

HEAD = "exhibit,kind,name,verdict\n"


def layout_with(root: Path, rows: str) -> Layout:
    (root / "verdicts.csv").write_text(HEAD + rows)
    return Layout("toy", root)


def test_claims_are_counted_by_paper_and_changes_are_named(tmp_path: Path) -> None:
    layout = layout_with(
        tmp_path, "a/t,claim,A1,reproduced\na/t,claim,A2,undecided\nb/t,claim,B1,reproduced\na/t,target,x,not run\n"
    )
    after = summary.verdicts(layout)
    assert len(after) == 3, "numbers are no claims"
    lines = summary.as_text({("a/t", "A1"): "undecided", ("b/t", "B1"): "reproduced"}, after, layout).splitlines()
    assert lines[0].split() == ["a", "2", "claims:", "1", "reproduced,", "1", "undecided"]
    assert "a/t A1 reproduced (was undecided)" in lines[2] and "B1" not in lines[2]


def test_a_first_call_has_nothing_to_compare_with(tmp_path: Path) -> None:
    layout = layout_with(tmp_path, "a/t,claim,A1,reproduced\n")
    assert summary.verdicts(Layout("toy", tmp_path / "none")) == {}
    assert "since" not in summary.as_text({}, summary.verdicts(layout), layout)


def test_many_changes_stay_within_fifteen_lines(tmp_path: Path) -> None:
    layout = layout_with(tmp_path, "".join(f"a/t,claim,A{n},reproduced\n" for n in range(50)))
    after = summary.verdicts(layout)
    text = summary.as_text(dict.fromkeys(after, "undecided"), after, layout)
    assert "and 46 more" in text and len(text.splitlines()) <= 15
