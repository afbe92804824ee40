"""init=pretrained on another dataset: the digits' networks for mirrored digits, which they know
less of."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch.func import functional_call

from ddist import DistilledDataset
from ddist.data import RealData
from ddist.data.pixels import to_channels, to_size
from ddist.init import Pretrained
from ddist.networks import MLP

POOL = (
    "init=pretrained", "init.num_networks=4", "init.num_held_out=3", "init.epochs=15",
    "init.batch_size=64", "init.lr=0.01", "paths.cache=cache",
)  # fmt: skip
NAMES = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def shared(shared_ddist: Any) -> Any:
    """``ddist`` where mirror.npz has the mirrored digits in 3 channels and 10 pixels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = torch.from_numpy((x * 255 / 16).astype(np.uint8)).view(-1, 1, 8, 8)
    x = to_channels(to_size(x.flip(3), 10), 3).numpy()
    arrays = {"x_train": x[::2], "y_train": y[::2], "x_test": x[1::2], "y_test": y[1::2]}
    np.savez(shared_ddist.folder / "mirror.npz", class_names=np.array(NAMES), **arrays)
    return shared_ddist


TARGET = ("dataset=arrays", "dataset.source.file=mirror.npz", "network=mlp", "network.widths=[16]")
PAPER = ("method=dd", "recipe=dd/_paper")


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


@pytest.mark.parametrize("fixed", [False, True])
def test_the_sources_networks_start_on_the_target(shared: Any, fixed: bool) -> None:
    folder = shared.folder / f"adapted_{fixed}"
    done = shared(*TARGET, *PAPER, *POOL, "init.source=digits", f"init.fixed={str(fixed).lower()}",
                  "method.student_epochs=5", "method.step_size=0.1", "steps=300",
                  "method.lr.images=0.1", "method.unroll=autograd", "method.batch_real=256",
                  "evaluation.epoch_grid=[1,3]", "reference.measure=true",
                  "reference.training.epochs=5", f"hydra.run.dir={folder}")  # fmt: skip
    assert (done.code, done.err) == (0, ""), done.out
    found = results(folder)
    rows = found["baselines"]
    assert rows.keys() == {"no_adaptation", "random", "full_measured"}
    (ours,) = found["evaluation"]
    (num,) = {row["num_networks"] for row in (ours, rows["no_adaptation"], rows["random"])}
    assert num == (1 if fixed else 3)  # of the pool's held-out ones, by itself
    assert rows["no_adaptation"]["protocol"] == ours["protocol"] == "replay"
    assert rows["full_measured"]["protocol"] == "measured, 5 epochs of Adam"
    assert rows["full_measured"]["num_networks"] == num
    no_adaptation, full = (rows[n]["accuracy_mean"] for n in ("no_adaptation", "full_measured"))
    assert no_adaptation < ours["accuracy_mean"] and no_adaptation + 0.1 < full
    assert "no adaptation" in done.out and "all training images, mlp: " in done.out
    if fixed:  # the artifact's own weights, on the target's test images, without ddist's loops
        distilled = DistilledDataset.load(folder / "distilled")
        assert distilled.initial_weights is not None
        config = OmegaConf.create(distilled.config)
        assert config.dataset.channels is None and config.init.source == "digits"
        with np.load(shared.folder / "mirror.npz") as file:
            x, y = torch.from_numpy(file["x_test"]), torch.from_numpy(file["y_test"])
            seen = torch.from_numpy(file["x_train"]).double() / 255
        x = (x.double() / 255 - seen.mean((0, 2, 3))[:, None, None]) / seen.permute(
            1, 0, 2, 3
        ).flatten(1).std(1, unbiased=False)[:, None, None]
        network = MLP(10, (3, 10, 10), [16], "relu")
        logits = functional_call(network, distilled.initial_weights, (x.float(),))
        assert float((logits.argmax(1) == y).double().mean()) == no_adaptation


@pytest.mark.parametrize("method", ["random", "average", "kmeans", "optimized_random"])
@pytest.mark.parametrize("fixed", ["false", "true"])
def test_baselines_adapt_too(shared: Any, method: str, fixed: str) -> None:
    folder = shared.folder / f"{method}_{fixed}"
    few = ("method.num_candidates=3",) if method == "optimized_random" else ()
    done = shared(*TARGET, *POOL, "init.source=digits", f"init.fixed={fixed}", "ipc=2", *few,
                  f"method={method}", "task.baseline=false", f"hydra.run.dir={folder}")  # fmt: skip
    assert (done.code, done.err) == (0, ""), done.out
    found = results(folder)
    assert found["baselines"].keys() == {"no_adaptation"}
    assert found["evaluation"][0]["chosen"].keys() == {"step_size", "epochs"}
    # chosen on training images among steps that go from nothing to much
    adapted = found["evaluation"][0]["accuracy_mean"]
    assert adapted > found["baselines"]["no_adaptation"]["accuracy_mean"] - 0.1


def test_without_another_source_nothing_is_adapted(ddist: Any) -> None:
    done = ddist(*POOL, "steps=1", "task.baseline=false", "hydra.run.dir=run", "init.source=digits",
                 "init.epochs=1", "evaluation.epoch_grid=[1]")  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert results(ddist.folder / "run")["baselines"] == {}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("init.source=digit", "Unknown dataset 'digit' (did you mean digits?)"),
        ("init.subset=0", "init.subset is a whole number of at least 1 or null, not 0."),
        ("evaluation.num_networks=4", "asks for 4 held-out networks, but init.num_held_out=3"),
        ("method.num_networks=5", "5 networks are wanted at once, but init.num_networks=4"),
        (
            "method=frepo method.num_pool=5",
            "5 networks are wanted at once, but init.num_networks=4",
        ),
        ("init.fixed=true method.num_networks=2", "This init always gives the same weights"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_trained(
    ddist: Any, words: str, expected: str
) -> None:
    done = ddist(*POOL, *words.split())
    assert done.code == 1 and done.err.startswith("ddist: ") and expected in done.err
    assert not (ddist.folder / "cache").exists()


def test_a_source_of_other_classes_is_named(shared: Any) -> None:
    half = shared.folder / "half.npz"
    with np.load(shared.folder / "mirror.npz") as file:
        parts = {split: file[f"y_{split}"] < 5 for split in ("train", "test")}
        kept = {f"{k}_{split}": file[f"{k}_{split}"][where]
                for split, where in parts.items() for k in "xy"}  # fmt: skip
    np.savez(half, **kept)
    done = shared(*TARGET, *POOL, "init.source=digits", f"dataset.source.file={half}")
    assert done.code == 1
    assert "init.source=digits has 10 classes and arrays has 5, which one network" in done.err


def test_few_images_of_the_source(real_data: Callable[..., RealData], tmp_path: Path) -> None:
    """init.subset changes what the networks learn from, and so their key in the cache."""
    digits = real_data("digits").load()
    options: dict[str, Any] = dict(
        num_networks=1, num_held_out=1, fixed=False, scheme="default", epochs=1, batch_size=64,
        optimizer="adam", lr=0.01, momentum=0.9, weight_decay=0.0, lr_drops=[], lr_factor=0.5,
        cache=tmp_path, seed=0,
    )  # fmt: skip
    network = MLP(10, digits.image_shape, [16], "relu")
    keys = {
        Pretrained(source=source, **options).signature(network)
        for source in (digits, digits.limited(20, "source"), digits.limited(30, "source"))
    }
    assert len(keys) == 3
