"""What the first step needs is cut to its share of a budget."""

from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ddist.errors import DdistError
from ddist.experts import Trajectories
from ddist.tasks import cost as costs
from ddist.tasks import preparing
from ddist.tasks.build import build_trajectories, read_data
from ddist.tasks.config import conf_dir, register_resolvers
from ddist.tasks.cost import Clock

WORDS = ("dataset=digits", "network.width=4", "paths.data=.", "paths.run=.")


def composed(*words: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", [*WORDS, "paths.cache=.", *words])


@pytest.mark.parametrize(
    ("seconds", "epochs", "per_class"),
    [(1e-6, 20, 500), (2e-4, 10, 500), (1e-3, 3, 80), (1.0, 3, 1)],
)
def test_choosing_real_images_takes_its_share(
    monkeypatch: pytest.MonkeyPatch, seconds: float, epochs: int, per_class: int
) -> None:
    """Of the digits' 121 or so per class, each of which takes so many seconds in training."""
    monkeypatch.setattr(preparing, "seconds_per_image", lambda *_: seconds)
    filled, data = read_data(composed("method=dm", "budget=1m"))
    settings = preparing.coreset_within_budget(filled, data, Clock(0.0)).reference.coreset
    assert (settings.epochs, settings.per_class) == (epochs, per_class)
    images = sum(min(per_class, count) for count in data.train.counts)
    allowed = preparing.CHOOSING * (60 - costs.FINISHING)
    assert seconds == 1.0 or images * (epochs + preparing.EMBEDDED) * seconds <= allowed
    filled.budget = None
    unbound = preparing.coreset_within_budget(filled, data, Clock(0.0)).reference.coreset
    assert (unbound.epochs, unbound.per_class) == (20, 500)


def test_what_the_first_step_needs_is_cut_to_its_share(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    filled, data = read_data(composed("method=mtt", "budget=100s"))
    needs = preparing.preparations(filled, data)
    assert needs["trajectories.num_experts"] == len(data.train) * 4  # starts 0 to 3, one epoch each
    assert needs["teacher.epochs"] == needs[preparing.EMBEDDING] == 0
    one = 0.3 * 94 / (2 * needs["trajectories.num_experts"])  # two experts fit
    monkeypatch.setattr(preparing, "seconds_per_image", lambda *_: one)
    assert preparing.prepared_within_budget(filled, data, Clock(0.0)).trajectories.num_experts == 1
    monkeypatch.setattr(preparing, "seconds_per_image", lambda *_: 0.99 * one)
    assert preparing.prepared_within_budget(filled, data, Clock(0.0)).trajectories.num_experts == 2
    for times, each in ((4, len(data.train) // 20), (1000, preparing.FEWEST_EACH)):
        monkeypatch.setattr(preparing, "seconds_per_image", lambda *_, times=times: times * one)
        cut = preparing.prepared_within_budget(filled, data, Clock(0.0))
        assert (cut.trajectories.num_experts, cut.trajectories.subset) == (1, each)
    experts = build_trajectories(cut, data)
    assert isinstance(experts, Trajectories)
    assert list(experts.source.train.counts) == [preparing.FEWEST_EACH] * 10
    assert preparing.preparations(cut, data)[preparing.EXPERTS] == 4 * 10 * preparing.FEWEST_EACH
    monkeypatch.setattr(preparing, "seconds_per_image", lambda *_: one / 2)
    assert preparing.prepared_within_budget(filled, data, Clock(0.0)) is filled
    # A run that goes on keeps the experts that it began with, however much time there is now.
    (tmp_path / "settings.json").write_text('{"method": {"trajectories": {"num_experts": 2}}}')
    filled.paths.run = str(tmp_path)
    monkeypatch.setattr(preparing, "chosen", lambda *names: False)
    assert preparing.prepared_within_budget(filled, data, Clock(0.0)).trajectories.num_experts == 2
    monkeypatch.setattr(preparing, "chosen", lambda *names: True)
    assert preparing.prepared_within_budget(filled, data, Clock(0.0)).trajectories.num_experts == 3


def test_experts_cost_what_their_own_training_does(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[float, object]] = []

    def fit(*arguments: Any, augment: object, generators: object) -> None:
        trained.append((arguments[4].rho, augment))

    monkeypatch.setattr(costs, "fit", fit)
    filled, data = read_data(composed("method=ftd", "budget=100s"))
    preparing.prepared_within_budget(filled, data, Clock(0.0))
    rho, augment = trained[-1]
    assert rho == filled.trajectories.rho > 0 and augment is not None


def test_other_processes_take_what_the_first_has_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As torchrun starts them, each would measure times of its own."""
    filled, data = read_data(composed("method=mtt", "budget=100s"))
    filled.paths.run = str(tmp_path)
    monkeypatch.setattr(preparing, "seconds_per_image", lambda *_: 1e-9)  # all would fit
    monkeypatch.setattr(preparing, "chosen", lambda *names: False)
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("RANK", "1")):
        monkeypatch.setenv(name, value)
    note = '{"method": {"trajectories": {"num_experts": 2}}}'
    first = Timer(0.3, lambda: (tmp_path / "settings.json").write_text(note))
    first.start()
    assert preparing.prepared_within_budget(filled, data, Clock(0.0)).trajectories.num_experts == 2
    first.join()
    (tmp_path / "settings.json").unlink()
    filled.budget = "0.1s"
    with pytest.raises(DdistError, match="first process of this run has not begun"):
        preparing.prepared_within_budget(filled, data, Clock(0.0))
    monkeypatch.setenv("RANK", "0")
    preparing.prepared_within_budget(filled, data, Clock(0.0))  # the first one measures at once


def test_a_pool_and_an_autoencoder_are_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    filled, data = read_data(
        composed("method=ncfm", "init=experts", "init.num_held_out=5", "budget=100s")
    )
    images = preparing.preparations(filled, data)[preparing.POOL]
    assert images == 60 * len(data.train)
    allowed = preparing.PREPARING * (100 - costs.FINISHING)
    for fitting, networks, epochs in ((10.5, 5, 60), (2.52, 1, 25), (0.01, 1, 1)):
        # of the 25 networks together
        one = allowed / (fitting * images)
        monkeypatch.setattr(preparing, "seconds_per_image", lambda *_, one=one: one)
        cut_config = preparing.prepared_within_budget(filled, data, Clock(0.0)).init
        assert (cut_config.num_networks, cut_config.epochs) == (networks, epochs)
    assert (filled.init.num_networks, filled.init.epochs) == (20, 60)

    filled, data = read_data(composed("method=ddoq", "budget=100s"))
    for seconds, steps in ((0.01, 1000), (0.101, 279), (100.0, 1)):
        monkeypatch.setattr(preparing, "seconds_per_step_of_autoencoder", lambda *_, s=seconds: s)
        cut_config = preparing.prepared_within_budget(filled, data, Clock(0.0))
        assert cut_config.method.generative.steps == steps
    for other in ("pca", "identity"):
        filled, data = read_data(composed("method=ddoq", f"generative={other}", "budget=100s"))
        assert preparing.preparations(filled, data)[preparing.AUTOENCODER] == 0


def test_a_step_of_the_autoencoder_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    filled, data = read_data(composed("method=ddoq", "generative.batch_size=4000"))
    monkeypatch.setattr(costs, "seconds_of", lambda once: once() or 2.0)
    seconds = costs.seconds_per_step_of_autoencoder(filled, data)
    assert seconds == pytest.approx(2.0 * 4000 / len(data.train))  # fewer images than a batch
