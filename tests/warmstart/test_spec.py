"""What a run may be, what it costs, and that saying so needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest
from pydantic import ValidationError

from bench.run import SMOKE_BATCH
from bench.warmstart.design import RI, WS
from bench.warmstart.exhibits import fig1
from bench.warmstart.spec import FRESH, Network, Optimizer, Restart, Round, Stop, Training


def run(**fields: object) -> Training:
    return Training(**{"seed": 0, "rounds": (Round(samples=1000, start=FRESH),), **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shrink": 1.5}, "less than or equal to 1"),
        ({"shrink": -0.1}, "greater than or equal to 0"),
        ({"perturb": -1}, "greater than or equal to 0"),
        ({"method": "../evil"}, "pattern"),
        ({"lambda": 0.5}, "Extra inputs"),
    ],
)
def test_impossible_restarts_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Restart(**fields)


def test_rounds_must_have_samples_and_not_more_than_there_are() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Round(samples=0)
    with pytest.raises(ValidationError, match="33333 of the fit split"):
        run(rounds=(Round(samples=33_334),))
    with pytest.raises(ValidationError, match="33333 of the fit split"):
        run(rounds=(Round(samples=1000, grows=1000, repeats=34),))
    with pytest.raises(ValidationError, match=r"needs stop\.epochs"):
        run(optimizer=Optimizer(schedule="cosine"))


@pytest.mark.parametrize(("dataset", "fit"), [("cifar10", 33_333), ("cifar100", 33_333), ("svhn", 48_838)])
def test_two_thirds_are_fitted(dataset: str, fit: int) -> None:
    assert run(dataset=dataset).fit_samples() == fit


def test_online_learning_is_one_list() -> None:
    """Figure 2: 33 rounds of 1,000 new samples and a last one of 333."""
    lots = (Round(samples=1000, grows=1000, repeats=33), Round(samples=33_333))
    expanded = run(rounds=lots).expanded()
    assert [one.samples for one in expanded] == [*range(1000, 33_001, 1000), 33_333]
    assert sum(one.samples for one in expanded) == 594_333  # the protocol's sum, section d


def test_cost_counts_three_passes_of_two_operations() -> None:
    spec = run(stop=Stop(epochs=350), rounds=(Round(samples=16_666, start=FRESH),))
    cost = spec.cost()
    assert cost.amount == 350 * 16_666
    assert cost.flops == pytest.approx(cost.amount * 0.21e9, rel=0.01)  # 0.21 GFLOP a sample, section d


def test_defaults_do_not_enter_the_identity_and_seeds_not_the_group() -> None:
    plain = run()
    assert plain.identity == run(stop=Stop(), network=Network(), bn_buffers="keep").identity
    assert plain.identity != run(bn_buffers="reset").identity
    child, other = (run(parent=run(leaves=True, seed=seed), seed=seed) for seed in (0, 1))
    assert child.identity != other.identity
    assert child.group == other.group
    assert json.loads(json.dumps(child.description())) == child.description()


def test_the_code_of_a_run_is_its_network_and_its_methods() -> None:
    lots = (Round(samples=10, start=FRESH), Round(samples=20, start=Restart(method="dash", shrink=0.3)))
    assert run(rounds=lots).code() == ("bench.models.resnet", "bench.warmstart.methods.dash")


def test_smoke_keeps_the_kind_and_cuts_the_work() -> None:
    lots = (Round(samples=1000, grows=1000, repeats=33, start=Restart(method="shrink_perturb", shrink=0.6)),)
    spec = run(rounds=lots, parent=run(leaves=True, keep_epochs=(5, 10)), start_from="epoch-10")
    cut = spec.smoke()
    assert cut.cost().amount == 2 * SMOKE_BATCH
    assert cut.rounds[0].start == Restart(method="shrink_perturb", shrink=0.5)
    assert cut.network == spec.network and cut.shape() == spec.shape()
    assert cut.start_from in cut.parent.keeps()
    assert cut.data() == ()
    assert Training.model_validate(cut.model_dump()) == cut


def test_declaring_runs_imports_no_torch() -> None:
    code = "import sys, bench.warmstart.spec as s; s.Training(seed=0, rounds=(s.Round(samples=5),)).code()"
    done = subprocess.run(
        [sys.executable, "-c", code + "; print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("name", ["thin_resnet18", "resnet18"])
def test_networks_that_torch_cannot_train_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="expected 8 or more"):
        Network(name=name, width=7)
    assert Network(name=name, width=8).width == 8


def test_seeds_that_never_reach_the_threshold_leave_the_claim_open() -> None:
    frame = pd.DataFrame(
        [
            {"metric": metric, "method": method, "seed": seed, "value": value + seed / 10}
            for seed in range(4)
            for metric, method, value in (
                ("epochs_to_99_train", RI, 20.0),
                ("epochs_to_99_train", WS, 10.0 - seed / 10),
                ("test_acc_peak", RI, 50.0),
            )
        ]
    )
    assert fig1.warm_start_is_faster(frame).verdict == "reproduced"
    never = frame[~((frame["metric"] == "epochs_to_99_train") & (frame["seed"] == 3))]
    outcome = fig1.warm_start_is_faster(never)
    assert outcome.verdict == "undecided" and "[3]" in outcome.detail
