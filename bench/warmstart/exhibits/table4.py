"""Table 4: noise alone, without shrinking, added to a warm start before its second phase.

Table 1's two phases on CIFAR-10 with a ResNet-18 and SGD; between them iid Gaussian noise of one size is added to all
parameters. The table's header calls the size a standard deviation, the authors' code takes its square root, so that it is a
variance: both readings are run, and the printed numbers are held against the second.

Command: ``make reproduce SCALE=paper EXHIBITS=warmstart/table4``
Expected (printed): 54.4, 53.5, 52.9, 49.9 % for noise 1e-2 to 1e-5, 50.8 % without, 55.2 % for random initialisation.
Cost: eight second phases a seed beyond those of Table 1, 2 to 10 M samples each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bench import stats
from bench.exhibit import ArmRun, Claim, Exhibit, Row, by_seed, row
from bench.record import Record
from bench.warmstart.design import RI, WS, WarmstartSettings, accuracy_row, noise_start, random_init, second_phase
from bench.warmstart.spec import Restart

if TYPE_CHECKING:
    import pandas as pd

ONE_SEED = {"ci": "one seed has no interval"}
NOISY = "warm_start_noise"


class Settings(WarmstartSettings):
    selects = WarmstartSettings.selects | {"noise"}

    noise: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1e-2, 1e-3, 1e-4, 1e-5), description="sizes of the noise [P]"
    )
    readings: tuple[Literal["variance", "std"], ...] = Field(
        ("variance", "std"), description="what a size is: the first is held against the printed numbers [C, P]"
    )


def members(settings: Settings) -> list[ArmRun]:
    where: dict[str, Any] = {"dataset": "cifar10", "model": "thin_resnet18"}
    arms: list[tuple[dict[str, Any], Restart | None]] = [
        (where | {"method": RI}, None),
        (where | {"method": WS, "x_name": "noise", "x": 0.0}, noise_start(0)),
    ]
    for reading in settings.readings:
        panel = "" if reading == settings.readings[0] else reading
        for size in settings.noise:
            labels = where | {"panel": panel, "method": NOISY, "x_name": "noise", "x": size}
            arms.append((labels, noise_start(size, reading)))
    made = []
    for labels, start in arms:
        for seed in settings.seed_range():
            if start is None:
                run = random_init(settings, "cifar10", "thin_resnet18", "sgd", seed)
            else:
                run = second_phase(settings, "cifar10", "thin_resnet18", "sgd", seed, start=start)
            made.append(ArmRun(labels, run))
    return made


def rows(member: ArmRun, record: Record) -> Iterable[Row]:
    yield accuracy_row(member, record)
    yield row(member, "samples_to_stop", record.costs["samples"])
    if record.alone:
        yield row(member, "train_time", record.costs["seconds"] / 60)


def _cells(frame: Any) -> list[tuple[str, float]]:
    cells = frame[frame["method"] == NOISY][["panel", "x"]].drop_duplicates()
    if cells.empty:
        raise KeyError("no cell with noise")
    return list(cells.itertuples(index=False, name=None))


def _most_and_none(frame: Any, metric: str) -> tuple[dict[int, float], dict[int, float]]:
    """The largest noise of the first reading, and no noise."""
    most = max(x for panel, x in _cells(frame) if panel == "")
    return by_seed(frame, metric, panel="", method=NOISY, x=most), by_seed(frame, metric, method=WS)


def noise_helps(frame: Any) -> stats.Finding:
    """T4a: the largest noise ends at a higher accuracy than none."""
    return stats.greater(*_most_and_none(frame, "val_acc"))


def noise_costs(frame: Any) -> stats.Finding:
    """T4b: the largest noise takes more samples than none."""
    return stats.greater(*_most_and_none(frame, "samples_to_stop"))


def nothing_beats_fresh(frame: Any) -> stats.Finding:
    """T4c: every size is less accurate than random initialisation or takes more samples."""
    fresh, cost = (by_seed(frame, metric, method=RI) for metric in ("val_acc", "samples_to_stop"))
    parts = []
    for panel, x in _cells(frame):
        accuracy, samples = (
            by_seed(frame, metric, panel=panel, method=NOISY, x=x) for metric in ("val_acc", "samples_to_stop")
        )
        name = f"noise {x:g}{f' ({panel})' if panel else ''}"
        parts.append(
            stats.any_of(
                [
                    stats.greater(fresh, accuracy, name=f"RI's accuracy over {name}'s"),
                    stats.greater(samples, cost, name=f"samples of {name} over RI's"),
                ]
            )
        )
    return stats.all_of(parts)


def draw(frame: pd.DataFrame, published: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    import pandas as pd

    from bench.report.table import compare

    own = published[published["provenance"] == "printed"]
    columns: list[tuple[str, dict[str, Any]]] = [
        *((f"{size:g}", {"method": NOISY, "x": size}) for size in settings.noise),
        ("0", {"method": WS}),
        ("RI", {"method": RI}),
    ]
    lines = []
    for reading in settings.readings:
        panel = "" if reading == settings.readings[0] else reading
        for metric, title, digits in (
            ("val_acc", "accuracy (%)", 1),
            ("samples_to_stop", "samples", 0),
            ("train_time", "minutes", 1),
        ):
            cells = {"noise is": reading, "": title}
            for name, labels in columns:
                where = labels | ({"panel": panel} if "x" in labels else {})
                # Both readings are set beside the printed values, which name no reading.
                paper = own.assign(panel=panel) if "x" in labels else own
                cells[name] = compare(frame, paper, metric=metric, digits=digits, **where)
            lines.append(cells)
    return pd.DataFrame(lines)


EXHIBIT = Exhibit(
    name="warmstart/table4",
    title="Table 4: a warm start with noise and without shrinking",
    caption=(
        "Validation accuracy and cost of the second phase by size of the Gaussian noise, which is read as a variance and "
        "as a standard deviation; mean and standard deviation over seeds, printed values in brackets. The printed minutes "
        "are of one P100 and are context."
    ),
    kind="table",
    settings=Settings,
    runs=members,
    module=__name__,
    rows=rows,
    draw=draw,
    margins={"val_acc": 2.0},
    claims=(
        Claim("T4a", "More noise gives a higher accuracy than none.", "Table 4", noise_helps, not_expected_at=ONE_SEED),
        Claim("T4b", "More noise takes longer to train than none.", "Table 4", noise_costs, not_expected_at=ONE_SEED),
        Claim(
            "T4c",
            "No size of noise is both more accurate and cheaper than random initialisation.",
            "Table 4, section 4",
            nothing_beats_fresh,
            not_expected_at=ONE_SEED,
        ),
    ),
)
