"""The pool of pre-trained networks, on the bundled digits (real data, offline)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.init import Pretrained, Random
from ddist.inner.predict import accuracy
from ddist.networks import MLP, ConvNet, Weights
from ddist.tasks.targets import make
from tests.usual import usual_option

CONF = Path(__file__).parents[2] / "conf"
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits(folder: Path) -> RealData:
    config = usual_option("dataset", "digits")
    data: RealData = make(config, seed=0, root=folder, cache=folder)
    return data.load()


@pytest.fixture
def network() -> MLP:
    return MLP(10, SHAPE, [16], "relu")


def pretrained(digits: RealData, folder: Path, **changes: Any) -> Pretrained:
    config = OmegaConf.load(CONF / "init" / "pretrained.yaml")
    for name in ("subset", "weights", "classes"):  # for whoever loads the source
        config.pop(name)
    settings = {"num_networks": 3, "num_held_out": 2, "epochs": 8, "batch_size": 64, "lr": 0.01}
    config = OmegaConf.merge(config, settings, changes)
    found: Pretrained = make(config, source=digits, cache=folder, seed=0)
    return found


def members(weights: Weights) -> list[bytes]:
    return [w.numpy().tobytes() for w in weights["head.weight"]]


def test_the_networks_are_trained(digits: RealData, folder: Path, network: MLP) -> None:
    init = pretrained(digits, folder)
    batches = [*digits.batches(digits.test, 200)]
    fresh = accuracy(network, Random("xavier_normal", 0).draw(network, 3), batches)
    trained = accuracy(network, init.draw(network, 3, 0, 0), batches)
    assert float(fresh.max()) < 0.4 and float(trained.min()) > 0.85
    assert float(accuracy(network, init.held_out(network, 2), batches).min()) > 0.85


def test_draws_come_from_the_pool_and_never_from_the_held_out(
    digits: RealData, folder: Path, network: MLP
) -> None:
    init = pretrained(digits, folder)
    pool, held_out = set(members(init.draw(network, 3, 0, 0))), members(init.held_out(network, 2))
    assert len(pool) == 3 and len(set(held_out)) == 2 and not pool & set(held_out)
    draws = [members(init.draw(network, 1, 0, step)) for step in range(30)]
    assert {one for draw in draws for one in draw} == pool
    assert draws == [members(init.draw(network, 1, 0, step)) for step in range(30)]


def test_a_fixed_pool_is_one_point(digits: RealData, folder: Path, network: MLP) -> None:
    init = pretrained(digits, folder, fixed=True)
    drawn = members(init.draw(network, 2, 0, 7))
    assert drawn[0] == drawn[1] and members(init.held_out(network, 200)) == drawn[:1]


def test_the_pool_is_trained_once_and_kept(
    digits: RealData, folder: Path, network: MLP, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pretrained(digits, folder).draw(network, 3, 0)
    monkeypatch.setattr("ddist.init.pretrained.fit", None)
    again = pretrained(digits, folder).draw(MLP(10, SHAPE, [16], "relu"), 3, 0)
    assert all(torch.equal(again[name], w) for name, w in first.items())


def test_the_signature_covers_what_changes_the_pool(
    digits: RealData, folder: Path, network: MLP
) -> None:
    base = pretrained(digits, folder).signature(network)
    assert base == pretrained(digits, folder).signature(network) and len(base) == 8
    others = [
        pretrained(digits, folder, **{name: value}).signature(network)
        for name, value in {"epochs": 9, "lr": 0.02, "num_networks": 4, "scheme": "default"}.items()
    ]
    others.append(pretrained(digits, folder).signature(MLP(10, SHAPE, [16], "gelu")))
    assert len({base, *others}) == 6


def test_mistakes_are_named(digits: RealData, folder: Path, network: MLP) -> None:
    init = pretrained(digits, folder)
    with pytest.raises(DdistError, match=r"init\.num_networks=3"):
        init.draw(network, 4)
    with pytest.raises(DdistError, match=r"init\.num_held_out=2"):
        init.held_out(network, 3)
    with pytest.raises(DdistError, match=r"pre-trained on digits .* both datasets the same size"):
        init.draw(MLP(10, (1, 28, 28), [16], "relu"), 1)
    batch_norm = ConvNet(10, SHAPE, 1, 4, norm="batch", pooling="avg", activation="relu")
    with pytest.raises(
        DdistError, match=r"^init=pretrained keeps weights only.*norm=instance, or a"
    ):
        init.draw(batch_norm, 1)


def test_the_pool_follows_its_network(digits: RealData, folder: Path, network: MLP) -> None:
    """A network that is moved between two draws gets weights where it is."""
    init = pretrained(digits, folder)
    assert {w.device.type for w in init.draw(network, 1, 0).values()} == {"cpu"}
    network.to("meta")  # stands for an accelerator
    for weights in (init.draw(network, 2, 0), init.held_out(network, 1)):
        assert {w.device.type for w in weights.values()} == {"meta"}
