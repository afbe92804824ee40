"""An outer loss that is no number: back to a good point, with lower rates, and on."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.methods import Method
from ddist.methods import recovery as module
from ddist.methods.recovery import FACTOR, Point, diverged
from tests.trainers import quiet_trainer

NAN = float("nan")


def plain(value: Any) -> Any:
    """Make ``value`` comparable by ==."""
    match value:
        case Tensor():
            return value.tolist()
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value


@pytest.fixture
def make_dd(make_dd: Callable[..., Method], digits: RealData) -> Callable[..., Method]:
    return partial(make_dd, data=digits.feeding(16, None))


class Watched:
    """Runs a method for ``steps`` outer steps, whose losses are NaN at the ``bad`` calls."""

    def __init__(self, method: Method, steps: int, *bad: int) -> None:
        self.method, self.points, self.rates = method, [], []  # type: ignore[var-annotated]
        outer_loss = method.outer_loss

        def watched(batch: Any) -> Tensor:
            call = len(self.points)
            self.points.append(Point.of(method))
            self.rates.append(method.trainer.optimizers[0].param_groups[0]["lr"])
            loss = outer_loss(batch)
            return loss * NAN if call in bad else loss

        method.outer_loss = watched  # type: ignore[method-assign]
        self.trainer = quiet_trainer(steps)

    def fit(self) -> "Watched":
        self.trainer.fit(self.method, datamodule=self.method.data)
        return self


@pytest.mark.parametrize("name", ["dd", "dc", "frepo"])
def test_it_goes_back_to_where_the_loss_was_a_number(
    name: str, make_every: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY", 1)
    run = Watched(make_every(name)(), 4, 2).fit()
    good, retried = run.points[1], run.points[3]
    assert plain(good.learned) == plain(retried.learned) != plain(run.points[2].learned)
    assert plain(good.moments) == plain(retried.moments)
    assert run.method.recovery.steps == [2]
    assert run.trainer.global_step == 4 and len(run.points) == 5
    assert run.method.tensors()["images"].isfinite().all()


def test_networks_go_back_with_the_images(
    make_every: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FRePo's pool, which bad images may have spoilt."""
    monkeypatch.setattr(module, "EVERY", 1)
    run = Watched(make_every("frepo")(), 4, 2).fit()
    before, good, bad, retried, _ = (plain(point.state.get("pool")) for point in run.points)
    assert before is None and good == retried != bad


def test_rates_stay_lower_to_the_end(make_dd: Callable[..., Any]) -> None:
    falling = partial(torch.optim.lr_scheduler.StepLR, step_size=3, gamma=0.5)
    usual = Watched(make_dd(scheduler=falling), 6).fit().rates
    lowered = Watched(make_dd(scheduler=falling), 6, 1).fit().rates
    assert lowered[:2] == usual[:2]
    assert lowered[2:] == pytest.approx([rate * FACTOR for rate in usual[1:]])


def test_all_ranks_go_back_together(make_dd: Callable[..., Any]) -> None:
    """Also one whose own loss is a number."""
    run = Watched(make_dd(), 3)
    strategy = run.trainer.strategy
    decisions = iter([True, False, True, True])
    strategy.reduce_boolean_decision = lambda _, all: next(decisions)  # type: ignore[method-assign]
    assert run.fit().method.recovery.steps == [1]


def test_it_ends_where_lower_rates_do_not_help(make_dd: Callable[..., Any]) -> None:
    run = Watched(make_dd(), 9, *range(1, 20))
    with pytest.raises(DdistError, match="nan at step 1 although rates were lowered 5 times"):
        run.fit()
    with pytest.raises(DdistError, match=r"nan at step 0 \(learning"):  # no better point is known
        Watched(make_dd(), 9, 0).fit()


@pytest.mark.parametrize("bad", [1, 2])
def test_a_loss_that_is_read_late_is_in_no_checkpoint(
    bad: int, make_dd: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on accelerators, which are not waited for; also that of the last step."""
    monkeypatch.setattr(Method, "checks_later", lambda self, loss: True)
    run = Watched(make_dd(), 3, bad).fit()
    assert run.method.tensors()["images"].isfinite().all()
    run = Watched(make_dd(), bad + 1, bad)
    saved: list[dict[str, Any]] = []

    def end(*_: Any) -> None:
        saved.append(copy.deepcopy(run.trainer._checkpoint_connector.dump_checkpoint()))

    run.method.on_train_batch_end = end  # type: ignore[method-assign]
    run.fit()
    for checkpoint in saved:
        assert checkpoint["state_dict"]["synthetic.images"].isfinite().all()
        moments = checkpoint["optimizer_states"][0]["state"]
        assert all(m["exp_avg"].isfinite().all() for m in moments.values() if "exp_avg" in m)
    rates = [checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] for checkpoint in saved]
    assert rates[-1] < rates[0]


def test_the_error_names_rates_and_what_to_try() -> None:
    text = str(diverged(NAN, 3, {"images": 0.1}, torch.tensor([0.01, 0.02, 0.04]), 0))
    assert "nan at step 3 (" in text
    assert "images 0.1" in text
    assert "0.01 to 0.04" in text
    assert "trainer.gradient_clip_val" in text
    assert "inf at step 0" in str(diverged(float("inf"), 0, {"images": 0.1}, None, 0))
