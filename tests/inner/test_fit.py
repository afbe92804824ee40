"""Training K networks together equals training each alone, and equals a plain torch loop."""

import shutil
from dataclasses import fields
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ddist.augment import Siamese
from ddist.augment.mix import Mixed, cutmix
from ddist.errors import DdistError
from ddist.init import Random
from ddist.inner.fit import fit
from ddist.inner.predict import accuracy, predict
from ddist.inner.recipe import TrainingRecipe
from ddist.inner.stacking import member
from ddist.networks import MLP, ConvNet, LeNet, Network, Weights
from ddist.seeding import generator

SHAPE = (1, 12, 12)
FIELDS = {field.name for field in fields(TrainingRecipe)}


def tiny_convnet(norm: str = "instance") -> ConvNet:
    return ConvNet(3, SHAPE, depth=2, width=4, norm=norm, pooling="avg", activation="relu")


def toy_data(num: int = 12) -> tuple[Tensor, Tensor]:
    stream = generator(0, "toy")
    return torch.randn(num, *SHAPE, generator=stream), torch.arange(num) % 3


def train(network: Network, weights: Weights, x: Tensor, y: Tensor, **changes: object) -> Weights:
    num = len(next(iter(weights.values())))
    options: dict[str, object] = {
        "epochs": 3,
        "batch_size": 5,
        "optimizer": "sgd",
        "lr": 0.05,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "generators": [generator(1, "order", k) for k in range(num)],
    }
    options |= changes
    settings = {key: options.pop(key) for key in FIELDS & options.keys()}
    return fit(network, weights, x, y, TrainingRecipe(**settings), **options)  # type: ignore[arg-type]


def assert_same(a: Weights, b: Weights) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5)


def flip_some(x: Tensor, stream: torch.Generator) -> Tensor:
    chosen = torch.rand(len(x), 1, 1, 1, generator=stream) < 0.5
    return torch.where(chosen, x.flip(3), x)


cut = partial(cutmix, probability=0.7, beta=1.0)
siamese = Siamese(
    strategy=["color", "crop", "cutout", "flip", "scale", "rotate"],
    flip=True,
    prob_flip=0.5,
    ratio_scale=1.2,
    ratio_rotate=15.0,
    ratio_crop_pad=0.125,
    ratio_cutout=0.5,
    brightness=1.0,
    saturation=2.0,
    contrast=0.5,
)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [5, 100])
@pytest.mark.parametrize(
    ("augment", "mix"), [(None, None), (flip_some, None), (siamese, None), (siamese, cut)]
)
def test_stacked_equals_one_by_one(
    optimizer: str, batch_size: int, augment: object, mix: object
) -> None:
    # A bias before instance normalisation has no gradient but rounding, which Adam would blow up.
    network, (x, y) = tiny_convnet("instance" if optimizer == "sgd" else "none"), toy_data()
    weights = Random("xavier_normal", 0).draw(network, 3)
    soft = F.one_hot(y, 3) * 0.8 + 0.1
    options = {
        "optimizer": optimizer,
        "batch_size": batch_size,
        "lr": 0.01,
        "augment": augment,
        "mix": mix,
        "sample_weights": torch.linspace(0.5, 1.5, len(x)),
    }
    together = train(network, weights, x, soft, stacked=True, **options)
    alone = train(network, weights, x, soft, stacked=False, **options)
    assert_same(together, alone)


def test_first_member_does_not_depend_on_the_others() -> None:
    network, (x, y) = tiny_convnet(), toy_data()
    weights = Random("xavier_normal", 0).draw(network, 3)
    one = {name: tensor[:1] for name, tensor in weights.items()}
    many = train(network, weights, x, y)
    assert_same(train(network, one, x, y), {n: w[:1] for n, w in many.items()})


def test_equals_a_plain_loop_as_written_in_the_condensation_papers() -> None:
    network, (x, y) = tiny_convnet(), toy_data()
    weights = Random("xavier_normal", 0).draw(network, 1)
    fitted = train(
        network, weights, x, y, epochs=7, batch_size=100, lr_drops=[4], reset_momentum=True
    )
    student = tiny_convnet()
    student.load_state_dict(member(weights, 0))
    lr = 0.05
    sgd = torch.optim.SGD(student.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    for epoch in range(7):
        sgd.zero_grad()
        F.cross_entropy(student(x), y).backward()
        sgd.step()
        if epoch == 4:
            lr *= 0.1
            sgd = torch.optim.SGD(student.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    assert_same(member(fitted, 0), {n: p.detach() for n, p in student.named_parameters()})


def test_keeping_the_momentum_over_a_drop_differs_from_resetting_it() -> None:
    network, (x, y) = MLP(3, SHAPE, [8], "relu"), toy_data()
    weights = Random("default", 0).draw(network, 1)
    kept = train(network, weights, x, y, lr_drops=[0])
    reset = train(network, weights, x, y, lr_drops=[0], reset_momentum=True)
    assert any((kept[n] - reset[n]).abs().max() > 1e-6 for n in kept)


def test_hard_labels_equal_one_hot_labels_and_zero_weight_images_do_not_count() -> None:
    network, (x, y) = MLP(3, SHAPE, [8], "relu"), toy_data()
    weights = Random("default", 0).draw(network, 2)
    hard = train(network, weights, x, y, batch_size=100)
    assert_same(hard, train(network, weights, x, F.one_hot(y, 3).float(), batch_size=100))
    doubled = torch.cat([x, torch.randn(x.shape)])
    counted = torch.cat([torch.full((len(x),), 2.0), torch.zeros(len(x))])
    weighted = train(network, weights, doubled, y.repeat(2), batch_size=100, sample_weights=counted)
    assert_same(hard, weighted)


@pytest.mark.parametrize("stacked", [True, False])
def test_soft_labels_and_weights_are_those_of_the_definition(stacked: bool) -> None:
    """One step by hand: the mean over images of w_i * sum_c -y_ic log p_ic."""
    network, (x, _) = MLP(3, SHAPE, [8], "relu"), toy_data()
    soft = torch.rand(len(x), 3, generator=generator(2)).softmax(1)
    factors = torch.rand(len(x), generator=generator(3))
    weights = Random("default", 0).draw(network, 2)
    options = {"epochs": 1, "batch_size": 100, "momentum": 0.0, "weight_decay": 0.0}
    fitted = train(network, weights, x, soft, sample_weights=factors, stacked=stacked, **options)
    for k in range(2):
        one = {n: w.clone().requires_grad_() for n, w in member(weights, k).items()}
        log_p = functional_call(network, one, (x,)).log_softmax(1)
        loss = -(factors * (soft * log_p).sum(1)).mean()
        gradients = torch.autograd.grad(loss, list(one.values()))
        expected = {n: one[n] - 0.05 * g for n, g in zip(one, gradients, strict=True)}
        assert_same(member(fitted, k), {n: w.detach() for n, w in expected.items()})


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("soft", [True, False])
def test_a_mixed_image_counts_for_both_labels_each_with_its_weight(
    stacked: bool, soft: bool
) -> None:
    network, (x, y) = MLP(3, SHAPE, [8], "relu"), toy_data()
    one_hot = F.one_hot(y, 3).float()
    factors = torch.rand(len(x), generator=generator(3))
    weights = Random("default", 0).draw(network, 2)
    partner = torch.randperm(len(x), generator=generator(4))

    def halves(images: Tensor, stream: torch.Generator) -> Mixed:
        return Mixed(0.75 * images + 0.25 * images[partner], partner, 0.75)

    options = {"batch_size": 100, "weight_decay": 0.0, "stacked": stacked}
    labels = one_hot * 0.8 + 0.1 if soft else y
    fitted = train(network, weights, x, labels, mix=halves, sample_weights=factors, **options)
    # Cross-entropy is linear in the label: the same images with one label, the weighted mean.
    targets = factors[:, None] * (labels if soft else one_hot)
    mixed = halves(x, generator(0))
    by_hand = train(network, weights, mixed.x, 0.75 * targets + 0.25 * targets[partner], **options)
    assert_same(fitted, by_hand)


@pytest.mark.parametrize("stacked", [True, False])
def test_squared_errors_under_a_schedule_are_a_plain_loop(stacked: bool) -> None:
    """Adam on half the squared errors, weighed, its step size following a LambdaLR."""
    network, (x, _) = MLP(3, SHAPE, [8], "relu"), toy_data()
    y = torch.randn(len(x), 3, generator=generator(2))  # any numbers
    factors = torch.rand(len(x), generator=generator(3))
    weights = Random("default", 0).draw(network, 2)
    seen: list[tuple[int, int]] = []

    def scale(step: int, steps: int) -> float:
        seen.append((step, steps))
        return 1 - step / steps

    fitted = train(
        network, weights, x, y, optimizer="adam", lr=0.01, weight_decay=0.0, batch_size=100,
        epochs=5, criterion="mse", lr_scale=scale, sample_weights=factors, stacked=stacked,
    )  # fmt: skip
    assert seen[:5] == [(step, 5) for step in range(5)]
    for k in range(2):
        network.load_state_dict(member(weights, k))
        adam = torch.optim.Adam(network.parameters(), 0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / 5)
        for _ in range(5):
            adam.zero_grad()
            (factors * 0.5 * ((network(x) - y) ** 2).sum(1)).mean().backward()
            adam.step()
            schedule.step()
        assert_same(member(fitted, k), {n: w.detach() for n, w in network.named_parameters()})


def test_a_schedule_counts_steps_and_multiplies_with_drops() -> None:
    network, (x, y) = MLP(3, SHAPE, [8], "relu"), toy_data()
    weights = Random("default", 0).draw(network, 1)
    options = {"batch_size": 5, "momentum": 0.0, "epochs": 2}  # 3 batches of 12 images
    seen: list[tuple[int, int]] = []
    train(network, weights, x, y, lr_scale=lambda *at: seen.append(at) or 1.0, **options)
    assert seen == [(step, 6) for step in range(6)]
    halved = train(network, weights, x, y, lr_scale=lambda *at: 0.5, lr_drops=[0], **options)
    assert_same(halved, train(network, weights, x, y, lr=0.025, lr_drops=[0], **options))


def test_adamw_is_torchs() -> None:
    network, (x, y) = MLP(3, SHAPE, [8], "relu"), toy_data()
    weights = Random("default", 0).draw(network, 2)
    options = {"batch_size": 100, "lr": 0.01, "weight_decay": 0.1}
    fitted = train(network, weights, x, y, optimizer="adamw", **options)
    network.load_state_dict(member(weights, 1))
    adamw = torch.optim.AdamW(network.parameters(), 0.01, weight_decay=0.1)
    for _ in range(3):
        adamw.zero_grad()
        F.cross_entropy(network(x), y).backward()
        adamw.step()
    assert_same(member(fitted, 1), {n: w.detach() for n, w in network.named_parameters()})


def test_uint8_data_are_normalised_batch_by_batch() -> None:
    network, (x, y) = tiny_convnet(), toy_data()
    pixels = (x.clamp(-1, 1) * 100 + 128).to(torch.uint8)
    weights = Random("xavier_normal", 0).draw(network, 2)

    def normalize(images: Tensor) -> Tensor:
        assert images.ndim == 4
        return images.float() / 255 - 0.5

    per_batch = train(network, weights, pixels, y, normalize=normalize)
    assert_same(per_batch, train(network, weights, normalize(pixels), y))


def test_weights_and_network_are_left_as_they_were() -> None:
    network, (x, y) = tiny_convnet("batch").eval(), toy_data()
    weights = Random("xavier_normal", 0).draw(network, 2)
    before = {n: w.clone() for n, w in weights.items()}
    state = {n: w.clone() for n, w in network.state_dict().items()}
    train(network, weights, x, y)
    assert not network.training
    for name, tensor in before.items():
        assert torch.equal(weights[name], tensor) and not weights[name].requires_grad
    assert all(torch.equal(network.state_dict()[n], w) for n, w in state.items())


def test_batch_norm_keeps_each_networks_own_running_statistics() -> None:
    network, (x, y) = tiny_convnet("batch"), toy_data()
    weights = Random("xavier_normal", 0).draw(network, 2)
    fitted = train(network, weights, x, y, batch_size=100)
    plain = tiny_convnet("batch")
    plain.load_state_dict(member(weights, 1), strict=False)
    sgd = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for _ in range(3):
        sgd.zero_grad()
        F.cross_entropy(plain(x), y).backward()
        sgd.step()
    assert_same(member(fitted, 1), dict(plain.state_dict()))
    torch.testing.assert_close(
        predict(network, fitted, x)[1], plain.eval()(x).detach(), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(DdistError, match=r"network\.norm=instance"):
        train(network, weights, x, y, stacked=True)


def test_learns_what_can_be_learned_and_reports_progress() -> None:
    network, (x, y) = MLP(3, SHAPE, [32], "relu"), toy_data()
    weights = Random("xavier_normal", 0).draw(network, 4)
    seen: list[tuple[int, int]] = []
    fitted = train(
        network, weights, x, y, epochs=40, batch_size=100, progress=lambda *n: seen.append(n)
    )
    assert seen[0] == (1, 40) and seen[-1] == (40, 40)
    assert accuracy(network, fitted, [(x[:7], y[:7]), (x[7:], y[7:])]).tolist() == [1.0] * 4


def test_mistakes_are_named() -> None:
    network, (x, y) = MLP(3, SHAPE, [], "relu"), toy_data()
    weights = Random("default", 0).draw(network, 2)
    with pytest.raises(DdistError, match="2 networks, 1 generators"):
        train(network, weights, x, y, generators=[generator(0)])


@pytest.mark.parametrize("stacked", [True, False, "auto"])
def test_predict_equals_calling_each_network(stacked: bool) -> None:
    network = LeNet(10, (1, 28, 28))
    x = torch.randn(600, 1, 28, 28, generator=generator(0))  # more than one chunk
    weights = Random("xavier_normal", 0).draw(network, 3)
    logits = predict(network, weights, x, stacked=stacked)
    for k in range(3):
        # With a graph: there the pooling takes torch's own kernel.
        alone = functional_call(network, member(weights, k), (x,))
        torch.testing.assert_close(logits[k], alone.detach(), rtol=1e-4, atol=1e-5)


def test_stacked_calls_are_cut_to_bound_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    network, (x, y) = MLP(3, SHAPE, [8], "relu"), toy_data()
    weights = Random("default", 0).draw(network, 5)
    whole = train(network, weights, x, y, stacked=True)
    logits = predict(network, whole, x, stacked=True)
    monkeypatch.setattr("ddist.inner.stacking.IMAGES_AT_ONCE", 10)  # two networks of 5 images
    assert_same(train(network, weights, x, y, stacked=True), whole)
    torch.testing.assert_close(predict(network, whole, x, stacked=True), logits)


def test_dropout_is_off_in_prediction() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 3))
    weights = Random("default", 0).draw(network, 2)
    x, _ = toy_data()
    assert torch.equal(predict(network, weights, x), predict(network, weights, x))
    assert network.training


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_training_gives_the_same_weights() -> None:
    """Running statistics, which batch normalisation has, are among them."""
    network = tiny_convnet("batch")
    weights = Random("default", 0).draw(network, 2)
    plain = train(network, weights, *toy_data(), stacked=False)
    assert_same(train(network, weights, *toy_data(), stacked=False, compiled=True), plain)


@pytest.mark.parametrize(
    ("network", "stacked"),
    [
        (tiny_convnet(), False),
        (MLP(3, SHAPE, widths=[16], activation="relu"), True),
    ],
)
def test_mixed_precision_is_near_and_keeps_the_weights_whole(
    network: Network, stacked: bool
) -> None:
    weights = Random("default", 0).draw(network, 2)
    x, y = toy_data()
    exact = train(network, weights, x, y, stacked=stacked)
    mixed = train(network, weights, x, y, stacked=stacked, precision="bf16-mixed")
    moved = sum((exact[n] - weights[n]).square().sum() for n in weights).sqrt()
    apart = sum((exact[n] - mixed[n]).square().sum() for n in weights).sqrt()
    assert 0 < apart < 0.1 * moved
    assert all(w.dtype == torch.float32 for w in mixed.values())
    said = predict(network, mixed, x, stacked=stacked, precision="bf16-mixed")
    assert said.dtype == torch.float32
    torch.testing.assert_close(said, predict(network, mixed, x), rtol=0.05, atol=0.05)


def test_convolutions_are_not_stacked_in_mixed_precision() -> None:
    network = tiny_convnet()
    weights = Random("default", 0).draw(network, 2)
    with pytest.raises(DdistError, match="cannot be stacked in mixed precision"):
        train(network, weights, *toy_data(), stacked=True, precision="bf16-mixed")


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("batch_size", [5, 100])
def test_learning_from_a_teacher_is_the_papers_loop(stacked: bool, batch_size: int) -> None:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) on the images as they are trained on,
    augmented and mixed (Hinton et al. 2015, section 2.1); a mixed image has its samples' weights in
    their shares."""
    network, (x, y), temperature = tiny_convnet(), toy_data(), 4.0
    teacher = MLP(3, SHAPE, [8], "tanh")
    factors = torch.rand(len(x), generator=generator(3))
    weights = Random("default", 0).draw(network, 2)
    seen: list[tuple[Tensor, Tensor]] = []  # images and factors of each step of the last network

    def noted(x: Tensor, stream: torch.Generator) -> Mixed:
        found = cut(x, stream)
        order = [int((images - each).abs().flatten(1).sum(1).argmin()) for each in x]
        share = found.share * factors[order] + (1 - found.share) * factors[order][found.partner]
        seen.append((found.x, share))
        return found

    images = x

    def label(x: Tensor) -> Tensor:
        with torch.no_grad():
            return (teacher(x) / temperature).softmax(1)

    fitted = train(
        network, weights, x, y, batch_size=batch_size, mix=noted, label=label,
        temperature=temperature, sample_weights=factors, stacked=stacked,
    )  # fmt: skip
    num_steps = 3 * -(-len(x) // batch_size)
    assert len(seen) == 2 * num_steps
    for k in range(2):
        # stacked, the networks take each step in turn
        mine = seen[k::2] if stacked else seen[k * num_steps : (k + 1) * num_steps]
        network.load_state_dict(member(weights, k))
        sgd = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
        for mixed, share in mine:
            sgd.zero_grad()
            p = (teacher(mixed).detach() / temperature).softmax(1)
            log_q = (network(mixed) / temperature).log_softmax(1)
            kl = temperature**2 * F.kl_div(log_q, p, reduction="none").sum(1)
            (share * kl).mean().backward()
            sgd.step()
        assert_same(member(fitted, k), {n: w.detach() for n, w in network.named_parameters()})


def test_labels_given_once_are_those_given_on_the_fly() -> None:
    """Where nothing changes the images."""
    network, (x, y) = tiny_convnet(), toy_data()
    weights, teacher = Random("default", 0).draw(network, 2), MLP(3, SHAPE, [8], "tanh")
    with torch.no_grad():
        soft = (teacher(x) / 4.0).softmax(1)
        fly = train(
            network, weights, x, y, label=lambda x: (teacher(x) / 4.0).softmax(1), temperature=4.0
        )
    assert_same(fly, train(network, weights, x, soft, temperature=4.0))
    assert not torch.allclose(fly["head.weight"], train(network, weights, x, soft)["head.weight"])
