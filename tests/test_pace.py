"""Loops that are begun only, and the clock that knows how long all of them take."""

import pytest
import torch

from ddist.init.schemes import draw_weights
from ddist.inner.fit import fit
from ddist.networks import MLP
from ddist.pace import Pace, current, mapped, paced, part
from ddist.seeding import generator


def test_nothing_changes_without_a_pace() -> None:
    assert list(paced(range(5), 5)) == [0, 1, 2, 3, 4]
    with part("nothing"):
        assert current() is None


class Clock:
    """Stands for the module time."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("ddist.pace.time", found)
    return found


def test_the_rest_of_a_loop_is_counted(clock: Clock) -> None:
    with Pace(seconds=1) as pace:
        started = pace.now()
        done = [clock.sleep(5 if k == 0 else 0.3) for k in paced(range(1000), 1000)]
        assert len(done) == 5  # the first warms up, four are watched
        assert pace.now() - started == pytest.approx(5 + 999 * 0.3)
    assert current() is None


def test_loops_within_loops_and_parts_within_parts_add_up(clock: Clock) -> None:
    with Pace(seconds=0.01) as pace:
        started = pace.now()
        with part("outer"):
            for _ in paced(range(50), 50):
                with part("inner"):
                    for _ in paced(range(100), 100):
                        clock.sleep(0.005)
            clock.sleep(7)
        whole = pace.now() - started
    assert whole == pytest.approx(50 * 100 * 0.005 + 7)
    assert sum(pace.parts.values()) == pytest.approx(whole)
    assert pace.parts["inner"] > 0


def test_a_short_loop_is_run_whole() -> None:
    with Pace(seconds=10):
        assert len(list(paced(range(20), 20))) == 20


def test_results_stand_in_for_those_that_were_skipped(clock: Clock) -> None:
    asked: list[int] = []

    def square(k: int) -> int:
        clock.sleep(0.5)
        asked.append(k)
        return k * k

    assert mapped(square, range(6)) == [0, 1, 4, 9, 16, 25]
    del asked[:]
    with Pace(seconds=1):
        assert mapped(square, range(10)) == [0, 1, 4, 9, 0, 1, 4, 9, 0, 1]
    assert asked == [0, 1, 2, 3]


def test_a_training_is_cut_and_its_weights_are_whole() -> None:
    network = MLP(3, (1, 4, 4), [8], "relu")
    streams = [generator(0, "start", k) for k in range(4)]
    weights = draw_weights(network, "default", streams)
    x, y = torch.randn(32, 1, 4, 4), torch.arange(32) % 3

    def train(epochs: int) -> dict[str, torch.Tensor]:
        return fit(
            network, weights, x, y, epochs=epochs, batch_size=8, optimizer="sgd", lr=0.1,
            momentum=0.0, weight_decay=0.0, stacked=False,
            generators=[generator(0, "order", k) for k in range(4)],
        )  # fmt: skip

    with Pace(seconds=0.05) as pace:
        started = pace.now()
        found = train(100_000)
        ahead = pace.now() - started
    assert {name: w.shape for name, w in found.items()} == {n: w.shape for n, w in weights.items()}
    assert ahead > 20  # of 1.6 million steps
