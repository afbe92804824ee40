"""A budget is divided between outer steps and an evaluation that fits."""

from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from ddist.callbacks.schedule import Budget
from ddist.init import Random
from ddist.tasks import cost as costs
from ddist.tasks import plan
from ddist.tasks.build import read_data
from ddist.tasks.config import conf_dir, register_resolvers
from ddist.tasks.cost import Cost, changed, fewer, measured, stand_in
from ddist.tasks.plan import Amounts, cut

WORDS = ("dataset=digits", "method=dm", "network.width=4", "paths.data=.", "paths.run=.",
         "evaluation.precision=32-true")  # fmt: skip


def composed(cache: Path, *words: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", [*WORDS, f"paths.cache={cache}", *words])


@pytest.fixture
def cfg(tmp_path: Path) -> DictConfig:
    return composed(tmp_path)


@pytest.fixture
def replayed(tmp_path: Path) -> DictConfig:
    return composed(tmp_path, "evaluation=replay")


def test_networks_go_before_test_images_before_epochs_and_no_further_than_they_have_to() -> None:
    cost = Cost(fixed=1.0, per_pass=0.1, per_test=0.002)
    planned = Amounts(5, 100, 1000)
    assert cost.seconds(*planned) == 61.0
    few = partial(cut, cost, planned, least_tested=2000)
    assert few(61.0) == planned
    assert few(60.0) == (4, 100, 1000)
    networks, passes, tests = few(20.0)
    assert networks == plan.LEAST_NETWORKS and 10 <= passes < 100 and tests == 1000
    assert cost.seconds(networks, passes, tests) <= 20.0
    assert cost.seconds(networks, passes + 6, tests) > 20.0
    assert few(0.0) == (plan.LEAST_NETWORKS, plan.LEAST_EPOCHS, 1000)
    assert cut(cost, Amounts(2, 5, 10), 0.0, 2000) == (2, 5, 10)  # never more than there were

    many = Amounts(5, 100, 50_000)
    assert cut(cost, many, 200.0, 2000) == (3, 100, 16_666)  # half of the time is for testing
    assert cut(cost, many, 31.0, 2000) == (3, 48, 2_583)
    assert cut(cost, many, 7.0, 2000)[2] == 2000


class Seconds:
    """A clock on which networks, passes and test images take known times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def of(action: object) -> float:
            evaluator, distilled, few = action.args  # type: ignore[attr-defined]
            protocol = evaluator.protocol
            passes = protocol.schedule(len(distilled.images)).passes
            return 1.0 + protocol.num_networks * (0.5 * passes + 0.01 * len(few.test))

        monkeypatch.setattr(costs, "seconds_of", of)


def test_a_row_costs_what_its_parts_cost(cfg, monkeypatch: pytest.MonkeyPatch) -> None:
    Seconds(monkeypatch)
    filled, data = read_data(cfg)
    evaluator = partial(
        costs.evaluator_of, filled, data=data, init=Random("default", 0), teacher=None
    )
    protocol = evaluator().protocol
    cost = measured(evaluator, protocol, stand_in(filled, data), data, 400)
    expected = 1.0 + 5 * (0.5 * 400 + 0.01 * len(data.test))
    assert cost.seconds(5, 400, len(data.test)) == pytest.approx(expected, rel=0.02)


def test_the_grid_of_a_row_that_is_replayed_costs_what_its_sizes_cost(
    replayed: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(action: object) -> float:
        evaluator, _, few = action.args  # type: ignore[attr-defined]
        replay = evaluator.protocol
        tried = replay.tuning_networks * len(replay.step_size_grid)
        return 2.0 * tried + replay.num_networks * (0.5 + 0.01 * len(few.test))

    monkeypatch.setattr(costs, "seconds_of", of)
    filled, data = read_data(replayed)
    build = partial(costs.evaluator_of, filled, data=data, init=Random("default", 0), teacher=None)
    protocol = build().protocol
    cost = measured(build, protocol, stand_in(filled, data), data, 1)
    few = build(fewer(protocol, 3)).protocol
    assert (few.num_networks, few.tuning_networks, len(few.step_size_grid)) == (3, 3, 6)
    tested = len(data.test) + costs.FEW_TESTED  # while it was measured
    expected = 2.0 * 3 * 6 + 3 * (0.5 + 0.01 * tested)
    assert cost.seconds(3, 1, len(data.test)) == pytest.approx(expected)


def test_a_protocol_that_counts_no_networks_is_cut_to_fewer_test_images(tmp_path: Path) -> None:
    filled, data = read_data(composed(tmp_path, "evaluation=krr"))
    random = Random("default", 0)
    protocol = costs.evaluator_of(filled, data=data, init=random, teacher=None).protocol
    shorter = changed(filled, {**fewer(protocol, 1), "test_images": 9}).evaluation
    assert "num_networks" not in shorter and shorter.test_images == 9


def test_a_protocol_of_other_epochs_has_a_name_of_its_own(cfg) -> None:
    assert changed(cfg, {"num_networks": 3}).evaluation.name == "short"
    shorter = changed(cfg, {"epochs": 30})
    assert (shorter.evaluation.name, shorter.evaluation.epochs) == ("short, 30 epochs", 30)
    both = changed(cfg, {"test_images": 500, "epochs": 30})
    assert both.evaluation.name == "short, 30 epochs, 500 test images"
    assert both.evaluation.test_images == 500
    assert cfg.evaluation.name == "short"


def test_the_stand_in_is_as_many_real_images_as_the_set(cfg) -> None:
    cfg.ipc, cfg.synthetic.factor = 3, 2
    filled, data = read_data(cfg)
    distilled = stand_in(filled, data)
    assert torch.bincount(distilled.labels).tolist() == [12] * 10


def test_a_reserve_ends_the_steps_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("ddist.callbacks.schedule.time.monotonic", lambda: now[0])
    budget = Budget(60, before=10.0, reserve=20.0)
    assert budget.spent == 10 and budget.left == 30
    now[0] = 125.0
    assert budget.left == 5
    now[0] = 140.0
    assert budget.left == -10 and Budget(None).share == 0.0


def test_rows_are_counted(cfg) -> None:
    filled, data = read_data(cfg)
    assert plan.num_rows(filled, data, baseline=True) == pytest.approx(3 + 2 * plan.JUDGED)
    filled.reference.coreset.select = None
    assert plan.num_rows(filled, data, baseline=True) == pytest.approx(2 + 2 * plan.JUDGED)
    filled.method.ema = 0.9
    assert plan.num_rows(filled, data, baseline=False) == pytest.approx(2 + 2 * plan.JUDGED)


def test_learned_step_sizes_have_no_grid_to_try(replayed: DictConfig) -> None:
    filled, data = read_data(replayed)
    rows = plan.num_rows(filled, data, baseline=True)
    with open_dict(filled):
        filled.method.step_size = 0.1
    less = plan.num_rows(filled, data, baseline=True)
    assert rows - less == pytest.approx(1 - plan.REPLAYED)


def test_chosen_real_images_are_rows_too(cfg) -> None:
    filled, data = read_data(cfg)
    filled.evaluation._target_ = "ddist.evaluation.LinearProbe"
    filled.reference.coreset.select = None
    assert plan.num_rows(filled, data, baseline=True) == pytest.approx(5 + 2 * plan.JUDGED)
    assert plan.num_rows(filled, data, baseline=False) == pytest.approx(1 + 2 * plan.JUDGED)
