"""Tables of errors as the paper prints them: ours with the spread over seeds, the published number in brackets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.certified.design import PAPER_DATASETS, SETUPS, CertifiedSettings, SetupName, radius_text, schedule_text
from bench.stats import Values

if TYPE_CHECKING:
    import pandas as pd

LITERATURE = {
    "gowal_ibp": "IBP (Gowal et al.)",
    "zhang_crown_ibp": "CROWN-IBP (Zhang et al.)",
    "xu_crown_ibp_loss_fusion": "CROWN-IBP, loss fusion (Xu et al.)",
    "ibp_paramramp": "IBP + ParamRamp (Lyu et al.)",
    "crown_ibp_paramramp": "CROWN-IBP + ParamRamp (Lyu et al.)",
    "colt": "COLT (Balunovic and Vechev)",
    "linf_dist_net": "l_inf-dist net (Zhang et al.)",
}
"""Rows of other work in the paper's tables."""

DIGITS = 2
KINDS = ("standard", "verified")


def values_of(frame: pd.DataFrame, metric: str, **labels: Any) -> Values:
    """Seed -> value, empty where there is none."""
    rows = frame[frame["metric"] == metric]
    for name, value in labels.items():
        rows = rows[rows[name] == value]
    return Values(zip(rows["seed"].tolist(), rows["value"].tolist(), strict=False))


def heading(settings: CertifiedSettings, setup: SetupName) -> tuple[str, str]:
    """Row heads: data set with its classes, where some are left out, and radius; schedule, this scale's behind an arrow."""
    role = SETUPS[setup].role
    classes = f" ({settings.classes[role]} classes)" if role in settings.classes else ""
    dataset = f"{PAPER_DATASETS[role]}{classes}, eps {radius_text(settings.target(role))}"
    return dataset, schedule_text(settings, setup)


class Line(NamedTuple):
    """A row of a table of errors.

    Attributes:
        heads: texts of its row heads.
        labels: of its numbers.
        suffix: of its metrics; rows with one are no methods of their own and are never the best.
    """

    heads: tuple[str, ...]
    labels: Mapping[str, Any]
    suffix: str = ""


def error_tables(
    frame: pd.DataFrame,
    published: pd.DataFrame,
    names: Sequence[str],
    lines: Sequence[Line],
    groups: Mapping[str, Mapping[str, Any]],
    *,
    of: str,
    within: Sequence[str] = (),
    across: bool = False,
) -> dict[str, pd.DataFrame]:
    """The paper's table of errors, with two columns a group and the lowest in bold; a second one with what else is known.

    Args:
        frame: long frame of the exhibit.
        published: the published numbers.
        names: of the row heads.
        lines: rows.
        groups: heading -> labels of its columns.
        of: what a group is, for the second table, which has a row for each.
        within: row heads whose rows are compared with one another.
        across: whether the groups of a row are compared instead.
    """
    from bench.report.table import best, compare

    def error(line: Line, kind: str, labels: Mapping[str, Any]) -> str:
        metric = f"{kind}_error{line.suffix}"
        return compare(frame, published, metric=metric, digits=DIGITS, **line.labels, **labels)

    cells = grid(
        names,
        {
            line.heads: {(group, kind): error(line, kind, labels) for group, labels in groups.items() for kind in KINDS}
            for line in lines
        },
    )
    methods = [not line.suffix for line in lines]
    if across:
        for kind in KINDS:
            part = cells.columns.get_level_values(1) == kind
            cells.loc[:, part] = best(cells.loc[:, part].T, lowest=True).T
    else:
        cells[methods] = best(cells[methods], lowest=True, within=within)
    further = {
        (*line.heads, group): further_columns(frame, **line.labels, **labels)
        for line in lines
        for group, labels in groups.items()
        if not line.suffix and values_of(frame, "test_images", **line.labels, **labels)
    }
    return {"": cells, **({"Further errors": grid([*names, of], further)} if further else {})}


def grid(names: Sequence[str], lines: Mapping[Any, Mapping[Any, str]]) -> pd.DataFrame:
    """A frame of cells: texts of the row heads, which have names, -> heading -> text; tuples are headings in two lines."""
    import pandas as pd

    if not lines:
        return pd.DataFrame()
    columns = max((list(line) for line in lines.values()), key=len)
    rows = [[line.get(column, "–") for column in columns] for line in lines.values()]
    index = pd.MultiIndex.from_tuples(lines, names=list(names))
    grouped = isinstance(columns[0], tuple)
    return pd.DataFrame(rows, index, pd.MultiIndex.from_tuples(columns) if grouped else columns)


def further_columns(frame: pd.DataFrame, **labels: Any) -> dict[str, str]:
    """Errors in percent beside the paper's: verified by CROWN-IBP, under attack, of the best epoch; images and seeds."""
    from bench.report.table import number

    images = values_of(frame, "test_images", **labels)
    best = [values_of(frame, f"best_{kind}_error", **labels) for kind in KINDS]
    return {
        "by CROWN-IBP": number(values_of(frame, "verified_error_crown_ibp", **labels), DIGITS),
        "PGD": number(values_of(frame, "pgd_error", **labels), DIGITS),
        "best epoch (optimistic)": " / ".join(mean_text(values) for values in best),
        "test images": f"{min(images.values()):,.0f}" if images else "–",
        "seeds": str(len(images)),
    }


def timing_cells(frame: pd.DataFrame, published: pd.DataFrame, **labels: Any) -> dict[tuple[str, str], str]:
    """Seconds of an epoch of each phase and of the whole schedule; the published ones of an epoch have one digit."""
    from bench.report.table import compare

    phases = {
        ("seconds of an epoch", name): compare(
            frame, published, metric="seconds_per_epoch", digits=DIGITS, printed=1, x=phase, **labels
        )
        for phase, name in enumerate(("eps = 0", "ramp", "final"))
    }
    return {**phases, ("total (s)", ""): compare(frame, published, metric="total_seconds", **labels)}


def mean_text(values: Values) -> str:
    return f"{sum(values.values()) / len(values):.{DIGITS}f}" if values else "–"


def literature_table(published: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Other work in the paper's table, as printed; nothing where there is none."""
    literature = published[published["provenance"] == "literature"]
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for (panel, dataset, method), numbers in literature.groupby(["panel", "dataset", "method"], sort=False):
        errors = dict(zip(numbers["metric"], numbers["value"], strict=True))
        texts = {kind: f"{errors[f'{kind}_error']:.{DIGITS}f}" for kind in KINDS if f"{kind}_error" in errors}
        lines[PAPER_DATASETS[dataset], panel, LITERATURE.get(method, method)] = texts
    return {"Other work, as printed": grid(["data set", "epochs", "method"], lines)} if lines else {}
