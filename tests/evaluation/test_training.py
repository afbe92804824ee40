"""dc2021 against the loop of DC's code (VICO-UoE/DatasetCondensation, utils.evaluate_synset), and
the other protocols of ordinary training."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

import ddist.evaluation.training
from ddist.artifact.dataset import DistilledDataset
from ddist.augment import Siamese
from ddist.augment.mix import InTurn
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.evaluation import Training
from ddist.evaluation.protocol import Context
from ddist.init import Fixed, Random
from ddist.inner.schedule import Schedule, schedule_by_name, warmup_cosine
from ddist.inner.stacking import member
from ddist.networks import MLP, ConvNet, Weights
from ddist.seeding import generator
from ddist.synthetic.start import start_images
from ddist.tasks.config import (
    conf_dir,
    option_names,
    read_option,
    register_resolvers,
    to_plain,
)
from ddist.tasks.targets import make

pytestmark = pytest.mark.slow  # each composes, builds or trains

CONF = conf_dir()
Make = Callable[..., DistilledDataset]
OPTIONS: dict[str, Any] = {
    "name": "dc2021",
    "num_networks": 2,
    "epochs": 20,
    "schedule": "halfway",
    "loss": "cross_entropy",
    "batch_size": 256,
    "optimizer": "sgd",
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "augment": None,
    "mix": None,
    "temperature": 1.0,
    "labels": "own",
    "chunk": 20,
}


def reference(network: nn.Module, x: Tensor, y: Tensor, reset: bool = True) -> nn.Module:
    """evaluate_synset and epoch('train') of the authors' code for one full batch. ``reset=False``
    leaves the momentum buffer at the drop, which their code does not."""
    lr, epochs = OPTIONS["lr"], OPTIONS["epochs"]
    lr_schedule = [epochs // 2 + 1]
    options = {"momentum": OPTIONS["momentum"], "weight_decay": OPTIONS["weight_decay"]}
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, **options)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(epochs + 1):
        loss = criterion(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch in lr_schedule:
            lr *= 0.1
            if reset:
                optimizer = torch.optim.SGD(network.parameters(), lr=lr, **options)
            optimizer.param_groups[0]["lr"] = lr
    return network


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Weights]:
    """The weights that a protocol trained, chunk by chunk."""
    kept: list[Weights] = []
    original = ddist.evaluation.training.accuracy

    def noted(network: nn.Module, weights: Weights, batches: Any, **options: Any) -> Tensor:
        kept.append(weights)
        return original(network, weights, batches, **options)

    monkeypatch.setattr(ddist.evaluation.training, "accuracy", noted)
    return kept


def furthest(ours: Weights, k: int, theirs: nn.Module) -> float:
    """Largest difference of any weight."""
    return max(
        float((ours[name][k] - w.detach()).abs().max()) for name, w in theirs.named_parameters()
    )


@pytest.mark.parametrize("kind", ["mlp", "convnet"])
def test_it_is_the_papers_loop(
    digits: RealData, network: nn.Module, make_distilled: Make, trained: list[Weights], kind: str
) -> None:
    if kind == "convnet":
        options = {"norm": "instance", "pooling": "avg", "activation": "relu"}
        network = ConvNet(10, digits.image_shape, depth=2, width=8, **options)
    distilled = make_distilled()
    found, chosen = Training(**OPTIONS).accuracies(
        distilled, Context(digits, digits.test, network, Fixed("xavier_normal", 0), seed=3)
    )
    assert chosen == {} and found.shape == (2,)
    start = Random("default", 3).held_out(network, 2)  # whatever the run's own init is
    (ours,) = trained
    for k in range(2):
        network.load_state_dict(member(start, k))
        student = reference(network, distilled.images, distilled.labels)
        assert furthest(ours, k, student) < 1e-4
        with torch.no_grad():
            right = student(digits.normalization(digits.test.x)).argmax(1) == digits.test.y
        assert abs(float(found[k]) - float(right.double().mean())) <= 1 / len(digits.test)
    assert found.min() > 0.5 and found[0] != found[1]


def test_the_momentum_buffer_is_fresh_after_the_drop(
    digits: RealData, network: MLP, make_distilled: Make, trained: list[Weights]
) -> None:
    """So that the test above would see the difference."""
    distilled = make_distilled()
    start = Random("default", 0).held_out(network, 2)
    Training(**OPTIONS).accuracies(
        distilled, Context(digits, digits.test, network, Random("default", 0), seed=0)
    )
    network.load_state_dict(member(start, 0))
    kept = reference(network, distilled.images, distilled.labels, reset=False)
    assert furthest(trained[0], 0, kept) > 1e-3


@pytest.mark.parametrize("batch_size", [16, 256])
def test_chunks_change_no_number(
    digits: RealData, network: MLP, make_distilled: Make, batch_size: int
) -> None:
    """Not even with minibatches, whose order each network draws for itself."""
    distilled = make_distilled()
    context = Context(digits, digits.test, network, Random("default", 0), seed=0)
    options = OPTIONS | {"num_networks": 5, "batch_size": batch_size}
    together, apart = (
        Training(**options | {"chunk": chunk}).accuracies(distilled, context)[0] for chunk in (5, 2)
    )
    torch.testing.assert_close(together, apart, rtol=0, atol=1 / len(digits.test))


def test_sample_weights_and_soft_labels_count(
    digits: RealData, network: MLP, make_distilled: Make, trained: list[Weights]
) -> None:
    """Weight 2 for half of the images and 0 for the others is training on that half."""
    labels = nn.functional.one_hot(make_distilled().labels, 10).float()
    half = torch.arange(40) % 2 == 0
    weighed = make_distilled(labels=labels, weights=2.0 * half)
    alone = make_distilled(images=weighed.images[half], labels=labels[half], step_index=None)
    for each in (weighed, alone):
        Training(**OPTIONS).accuracies(
            each, Context(digits, digits.test, network, Random("default", 0), seed=0)
        )
    for name in trained[0]:
        torch.testing.assert_close(trained[0][name], trained[1][name], rtol=1e-3, atol=1e-5)


@pytest.fixture
def protocol() -> Callable[..., Training]:
    """``protocol(name, **changes)``: a protocol of conf/evaluation, composed as a run does."""

    def build(name: str, **changes: Any) -> Training:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("config", [f"evaluation={name}", "dataset=digits"])
        config = to_plain(cfg.evaluation)
        for key in ("networks", "precision", "without_batch_norm", "robust", "test_images"):
            config.pop(key)
        made = make(config, **changes)
        assert isinstance(made, Training) and made.name == name
        return made

    register_resolvers()
    return build


@pytest.mark.parametrize("name", ["dc2021", "dc2021_dsa", "idc"])
@pytest.mark.parametrize("ipc", [1, 10])
def test_a_network_does_not_depend_on_the_others(
    digits: RealData,
    make_distilled: Make,
    protocol: Callable[..., Training],
    trained: list[Weights],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    ipc: int,
) -> None:
    """The networks of a protocol, trained stacked, one after the other, and in chunks."""
    options = {"norm": "instance", "pooling": "avg", "activation": "relu"}
    network = ConvNet(10, digits.image_shape, depth=2, width=4, **options)
    labels = torch.arange(10).repeat_interleave(ipc)
    images = start_images("real", digits, labels, generator(0, "test"))
    distilled = make_distilled(images=images, labels=labels, step_index=None)
    for stacked, chunk in ((True, 20), (False, 20), (True, 2)):
        original = ddist.evaluation.training.fit

        def one_way(
            *args: Any, original: Any = original, stacked: bool = stacked, **options: Any
        ) -> Weights:
            *rest, recipe = args
            found: Weights = original(*rest, replace(recipe, stacked=stacked), **options)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(ddist.evaluation.training, "fit", one_way)
            protocol(name, num_networks=3, epochs=6, chunk=chunk).accuracies(
                distilled, Context(digits, digits.test, network, Random("default", 0), seed=0)
            )
    together, apart = trained[:2]
    chunks = {n: torch.cat([trained[2][n], trained[3][n]]) for n in together}
    for n in together:
        torch.testing.assert_close(apart[n], together[n], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(chunks[n], together[n], rtol=1e-3, atol=1e-4)
        assert not torch.allclose(together[n][0], together[n][1], atol=1e-3) or "norm" in n


def test_augmented_training_differs_from_plain_training(
    digits: RealData,
    network: MLP,
    make_distilled: Make,
    protocol: Callable[..., Training],
    trained: list[Weights],
) -> None:
    for name in ("dc2021", "dc2021_dsa", "idc"):
        protocol(name, num_networks=1, epochs=6).accuracies(
            make_distilled(), Context(digits, digits.test, network, Random("default", 0), seed=0)
        )
    plain, dsa, idc = (weights["head.weight"] for weights in trained)
    assert not torch.allclose(plain, dsa, atol=1e-4)
    assert not torch.allclose(plain, idc, atol=1e-4) and not torch.allclose(dsa, idc, atol=1e-4)


def test_the_published_settings(protocol: Callable[..., Training]) -> None:
    dc, dsa, idc = (protocol(name) for name in ("dc2021", "dc2021_dsa", "idc"))
    assert dc.schedule(10) == Schedule(301, (151,), 0.1, reset_momentum=True)
    assert dsa.schedule(10) == Schedule(1001, (501,), 0.1, reset_momentum=True)
    assert idc.schedule(10) == Schedule(1000, (665, 832), 0.2)
    assert {each.loss for each in (dc, dsa, idc)} == {"cross_entropy"}
    assert (dc.batch_size, dsa.batch_size, idc.batch_size) == (256, 256, 64)
    for each in (dc, dsa, idc):
        assert (each.lr, each.momentum, each.weight_decay) == (0.01, 0.9, 5e-4)
    assert dc.augment is None and dc.mix is None and dsa.mix is None
    assert isinstance(dsa.augment, Siamese) and len(dsa.augment.strategy) == 5  # no mirrored digits
    assert isinstance(idc.augment, InTurn)
    places = [part.strategy for part in idc.augment.parts.values()]
    assert places == [(), ("color",), ("crop", "scale", "rotate")]


def test_multistep_is_torchs_schedule() -> None:
    """After pass m the step size is that of MultiStepLR with IDC's milestones."""
    epochs = 31
    found = schedule_by_name("multistep", epochs)
    sgd = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(sgd, [2 * epochs // 3, 5 * epochs // 6], 0.2)
    lr = 1.0
    for done in range(epochs):
        sgd.step()
        theirs.step()
        lr *= found.factor if done in found.drops else 1
        assert theirs.get_last_lr() == [pytest.approx(lr)]


def test_cosines_are_torchs_schedule() -> None:
    """CosineAnnealingLR down to 0; with zeta 2 the first half of one twice as long."""
    for name, length in (("cosine", 30), ("smooth_cosine", 60)):
        scale = schedule_by_name(name, 10).scale
        assert scale is not None
        sgd = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        theirs = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=length)
        for step in range(30):
            assert scale(step, 30) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
            sgd.step()
            theirs.step()


def test_the_settings_of_the_decoupled_methods(protocol: Callable[..., Training]) -> None:
    def teach(x: Tensor, temperature: float) -> Tensor:
        return torch.full((len(x), 10), 0.1)

    rded, rd3, sre2l = (protocol(name, teacher=teach) for name in ("rded", "rd3", "sre2l"))
    assert [each.schedule(10).passes for each in (rded, rd3, sre2l)] == [300, 400, 300]
    assert [each.batch_size for each in (rded, rd3, sre2l)] == [10, 50, 1024]  # of ipc 1
    for each, end in ((rded, 0.5), (rd3, 0.5), (sre2l, 0.0)):
        assert (each.optimizer, each.lr, each.momentum, each.weight_decay) == (
            "adamw", 0.001, 0.9, 0.01,
        )  # fmt: skip
        scale = each.schedule(10).scale
        assert scale is not None and scale(1000, 1000) == pytest.approx(end)
        assert each.temperature == 20 and each.teacher is teach
        assert isinstance(each.mix, partial)
        assert each.mix.keywords == {"probability": 1.0, "beta": 1.0}
        assert isinstance(each.augment, InTurn)
        shuffle, crop = each.augment.parts.values()
        assert shuffle.factor == 1 and not crop.mirror  # digits
        assert crop.scale == ((0.08, 1.0) if each is sre2l else (1.0, 1.0))
    with pytest.raises(
        DdistError, match=r"^The protocol rded has its labels from a teacher: .*own"
    ):
        protocol("rded")


def test_labels_of_the_teacher_on_the_fly_are_those_in_the_artifact(
    digits: RealData, network: MLP, make_distilled: Make, trained: list[Weights]
) -> None:
    """Where nothing changes the images; and hard labels are refused at a temperature."""
    teacher = MLP(10, digits.image_shape, [16], "tanh")

    @torch.no_grad()
    def teach(x: Tensor, temperature: float) -> Tensor:
        return (teacher(x) / temperature).softmax(1)

    hard = make_distilled()
    meta = {**hard.meta, "label_temperature": 20.0}
    stored = make_distilled(labels=teach(hard.images, 20.0), meta=meta)
    options = OPTIONS | {"temperature": 20.0, "batch_size": 16}
    for distilled, labels in ((hard, "teacher"), (stored, "own")):
        Training(**options | {"labels": labels}, teacher=teach).accuracies(
            distilled, Context(digits, digits.test, network, Random("default", 0), seed=0)
        )
    for name, weights in trained[0].items():
        torch.testing.assert_close(weights, trained[1][name], rtol=1e-4, atol=1e-5)
    with pytest.raises(
        DdistError, match=r"temperature=20\.0 is for soft labels, which this set has"
    ):
        Training(**options).accuracies(
            hard, Context(digits, digits.test, network, Random("default", 0), seed=0)
        )


@pytest.mark.parametrize("steps", [2000, 501, 300])
def test_warmup_cosine_is_torchs_schedules(steps: int) -> None:
    """LinearLR from (nearly) nothing, then CosineAnnealingLR down to a hundredth."""
    sgd = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    rise = torch.optim.lr_scheduler.LinearLR(sgd, start_factor=1e-12, total_iters=500)
    length = max(1, steps - 500)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=length, eta_min=0.01)
    theirs = torch.optim.lr_scheduler.SequentialLR(sgd, [rise, fall], milestones=[500])
    for step in range(steps):
        assert warmup_cosine(step, steps) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        sgd.step()
        theirs.step()


def test_frepos_settings_go_by_the_number_of_images(protocol: Callable[..., Training]) -> None:
    found = protocol("frepo")
    steps = {num: found.schedule(num).passes * -(-num // 500) for num in PUBLISHED}
    assert steps == PUBLISHED
    assert found.schedule(20) == found.schedule(10) != found.schedule(40) == found.schedule(100)
    assert all(each.scale is warmup_cosine for each in found.schedules.values())
    assert (found.optimizer, found.lr, found.momentum) == ("adam", 0.0003, 0.9)
    assert (found.loss, found.batch_size, found.num_networks) == ("mse", 500, 5)
    assert isinstance(found.augment, Siamese) and len(found.augment.strategy) == 5
    assert protocol("frepo", epochs=7).schedule(1000).passes == 7


# Steps by the number of images, in the authors' script/eval.py.
PUBLISHED = {10: 1000, 100: 2000, 200: 20000, 500: 5000, 1000: 10000, 2000: 40000, 5000: 40000}


def test_frepo_trains_on_centred_labels_as_they_were_learned(
    digits: RealData, network: MLP, make_distilled: Make, trained: list[Weights],
    protocol: Callable[..., Training],
) -> None:  # fmt: skip
    classes = make_distilled().labels
    one_hot = nn.functional.one_hot(classes, 10).float()
    learned = one_hot + torch.randn(40, 10, generator=generator(0, "labels"))
    start = Random("default", 0).held_out(network, 2)
    for labels, y in ((learned, learned), (classes, one_hot)):
        trained.clear()
        judge = protocol("frepo", num_networks=2, epochs=20, augment=None, lr=0.1)
        judge.accuracies(
            make_distilled(labels=labels),
            Context(digits, digits.test, network, Random("default", 0), 0),
        )
        for k in range(2):
            network.load_state_dict(member(start, k))
            adam = torch.optim.Adam(network.parameters(), lr=0.1)
            for step in range(20):
                adam.param_groups[0]["lr"] = 0.1 * step / 500
                adam.zero_grad()
                errors = network(make_distilled().images) - (y - 0.1)
                (0.5 * errors.square().sum(1).mean()).backward()
                adam.step()
            assert furthest(trained[0], k, network) < 1e-4


def test_protocols_have_names_of_their_own() -> None:
    names = {each: read_option("evaluation", each).name for each in option_names("evaluation")}
    assert all(file == name for file, name in names.items())


def test_the_learned_step_size_is_trained_with(
    digits: RealData,
    network: MLP,
    make_distilled: Make,
    protocol: Callable[..., Training],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = []
    original = ddist.evaluation.training.fit

    def spy(*args: Any, **options: Any) -> Weights:
        rates.append(args[4].lr)
        return original(*args, **options)

    monkeypatch.setattr(ddist.evaluation.training, "fit", spy)
    sizes = torch.tensor([[0.02, 0.04]])
    for distilled in (make_distilled(step_sizes=sizes), make_distilled()):
        protocol("mtt", num_networks=1, epochs=1).accuracies(
            distilled, Context(digits, digits.test, network, Random("default", 0), seed=0)
        )
    assert rates == [pytest.approx(0.03), 0.01]
