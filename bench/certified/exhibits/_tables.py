"""Text of the tables of errors: ours with the spread over seeds, the published number in brackets, what else is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.certified.design import (
    MODELS,
    PAPER_DATASETS,
    SETUPS,
    CertifiedSettings,
    Model,
    SetupName,
    radius_text,
    schedule_text,
)
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


def values_of(frame: pd.DataFrame, metric: str, **labels: Any) -> Values:
    """Seed -> value, empty where there is none."""
    rows = frame[frame["metric"] == metric]
    for name, value in labels.items():
        rows = rows[rows[name] == value]
    return Values(zip(rows["seed"].tolist(), rows["value"].tolist(), strict=False))


def heading(settings: CertifiedSettings, setup: SetupName, model: Model | None = None) -> dict[str, str]:
    """Data set with its classes, where some are left out, and radius; schedule (this scale's behind an arrow), network."""
    role = SETUPS[setup].role
    classes = f" ({settings.classes[role]} classes)" if role in settings.classes else ""
    columns = {
        "data set": f"{PAPER_DATASETS[role]}{classes}, eps {radius_text(settings.target(role))}",
        "schedule": schedule_text(settings, setup),
    }
    return columns if model is None else {**columns, "model": MODELS[model]}


def error_columns(frame: pd.DataFrame, published: pd.DataFrame, **labels: Any) -> dict[str, str]:
    """Errors in percent of one row: standard, verified by IBP and CROWN-IBP, under attack, of the best epoch; n."""
    from bench.report.table import compare, number

    images = values_of(frame, "test_images", **labels)
    best = [values_of(frame, f"best_{kind}_error", **labels) for kind in ("standard", "verified")]
    return {
        "standard error": compare(frame, published, metric="standard_error", digits=DIGITS, **labels),
        "verified error": compare(frame, published, metric="verified_error", digits=DIGITS, **labels),
        "by CROWN-IBP": number(values_of(frame, "verified_error_crown_ibp", **labels), DIGITS),
        "PGD error": number(values_of(frame, "pgd_error", **labels), DIGITS),
        "best epoch (optimistic)": " / ".join(mean_text(values) for values in best),
        "test images": f"{min(images.values()):,.0f}" if images else "–",
        "seeds": str(len(images)),
    }


def mean_text(values: Values) -> str:
    return f"{sum(values.values()) / len(values):.{DIGITS}f}" if values else "–"


def literature_rows(published: pd.DataFrame) -> list[dict[str, str]]:
    """Other work in the paper's table, as printed."""
    literature = published[published["provenance"] == "literature"]
    rows = []
    for (panel, dataset, method), numbers in literature.groupby(["panel", "dataset", "method"], sort=False):
        errors = dict(zip(numbers["metric"], numbers["value"], strict=True))
        rows.append(
            {
                "data set": PAPER_DATASETS[dataset],
                "schedule": panel,
                "model": "other work",
                "method": LITERATURE.get(method, method),
                **{
                    f"{kind} error": f"[{errors[f'{kind}_error']:.{DIGITS}f}]"
                    for kind in ("standard", "verified")
                    if f"{kind}_error" in errors
                },
            }
        )
    return rows
