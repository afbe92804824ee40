"""Every network of conf/network: its size, its double backward, stacked and alone."""

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.func import functional_call, vmap

from ddist.errors import DdistError
from ddist.init import Random
from ddist.networks import ConvNet, Network, Timm, Weights
from ddist.seeding import generator
from ddist.tasks.config import option_names, read_option
from ddist.tasks.targets import make
from tests.usual import usual_option

CIFAR, MNIST = (3, 32, 32), (1, 28, 28)
SMALL = {"convnet": {"width": 8}, "mlp": {"widths": [16]}}


def build(name: str, shape: tuple[int, int, int], **options: object) -> Network:
    config = usual_option("network", name)
    network = make({**config, **options}, num_classes=10, image_shape=shape)
    assert isinstance(network, Network)
    return network


def images(shape: tuple[int, int, int], num: int = 3) -> Tensor:
    return torch.randn(num, *shape, generator=generator(0, "images"))


BATCH_NORM = {"convnet_bn": {}, "vgg11_bn": {}, "resnet18_bn": {},
              "convnet_wide_bn": {"depth": 3, "width": [128, 256, 512]}}  # fmt: skip


def test_every_config_is_covered() -> None:
    assert set(option_names("network")) == {
        *SIZES,
        *BATCH_NORM,
        "timm",
        "backbone",
        "backbone_lite2",
    }


@pytest.mark.parametrize("name", BATCH_NORM)
def test_networks_with_batch_normalisation_are_the_others_but_for_it(name: str) -> None:
    """As ``evaluation.networks`` reads them: each file by itself."""
    other = name.removesuffix("_bn").removesuffix("_wide")
    plain, ours = (read_option("network", n) for n in (other, name))
    assert ours == OmegaConf.merge(plain, {"norm": "batch"}, BATCH_NORM[name])


def test_number_of_parameters_of_the_wide_convnet() -> None:
    convolutions = sum(9 * i * o + o for i, o in ((3, 128), (128, 256), (256, 512)))
    expected = convolutions + 2 * (128 + 256 + 512) + 10 * (512 * 4 * 4) + 10
    network = build("convnet_wide_bn", CIFAR)
    assert sum(p.numel() for p in network.parameters()) == expected == 1_562_634


# Published counts (Wang et al. 2018; the condensation literature; CIFAR versions of VGG, ResNet).
SIZES = {
    "lenet": (MNIST, 61_706),
    "alexcifarnet": (CIFAR, 1_756_426),
    "convnet": (CIFAR, 320_010),
    "mlp": (MNIST, 784 * 128 + 128 + 128 * 128 + 128 + 1290),
    "alexnet": (CIFAR, 1_872_202),
    "vgg11": (CIFAR, 9_231_114),
    "resnet18": (CIFAR, 11_173_962),
}


@pytest.mark.parametrize("name", SIZES)
def test_number_of_parameters(name: str) -> None:
    shape, expected = SIZES[name]
    assert sum(p.numel() for p in build(name, shape).parameters()) == expected


def test_wider_and_deeper_convnets() -> None:
    tiny_imagenet = ConvNet(200, (3, 64, 64), 4, 128, "instance", "avg", "relu")
    assert sum(p.numel() for p in tiny_imagenet.parameters()) == 857_160
    growing = build("convnet", CIFAR, width=[8, 16, 32])
    assert growing.num_features == 32 * 4 * 4


@pytest.mark.parametrize("shape", [CIFAR, MNIST])
@pytest.mark.parametrize("name", SIZES)
def test_logits_are_the_head_of_the_features(name: str, shape: tuple[int, int, int]) -> None:
    network, x = build(name, shape, **SMALL.get(name, {})), images(shape)
    features = network.features(x)
    assert features.shape == (3, network.num_features)
    assert torch.equal(network(x), network.head(features))
    assert network(x).shape == (3, 10) and network.training


def second_order(network: Network, weights: Weights, x: Tensor, stacked: bool) -> Tensor:
    """The gradient in x of a function of the gradients in the weights."""
    x = x.clone().requires_grad_()
    weights = {name: w.clone().requires_grad_() for name, w in weights.items()}

    def loss(one: Weights) -> Tensor:
        return functional_call(network, one, (x,)).logsumexp(1).mean()

    losses = (
        vmap(loss)(weights)
        if stacked
        else torch.stack([loss({n: w[k] for n, w in weights.items()}) for k in range(2)])
    )
    gradients = torch.autograd.grad(losses.sum(), list(weights.values()), create_graph=True)
    (found,) = torch.autograd.grad(sum(g.square().sum() for g in gradients), x)
    return found


@pytest.mark.parametrize("name", SIZES)
def test_double_backward_is_the_same_stacked(name: str) -> None:
    side = {"vgg11": 32, "resnet18": 16}.get(name, 12)
    shape = (3, side, side)
    network, x = build(name, shape, **SMALL.get(name, {})), images(shape, 2)
    weights = Random("xavier_normal", 0).draw(network, 2)
    together = second_order(network, weights, x, stacked=True)
    alone = second_order(network, weights, x, stacked=False)
    assert alone.abs().max() > 0
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4 * float(alone.abs().max()))


@pytest.mark.parametrize("name", ["convnet", "alexnet", "vgg11"])
def test_28x28_acts_as_32x32(name: str) -> None:
    small = build(name, MNIST, **SMALL.get(name, {}))
    large = build(name, (1, 32, 32), **SMALL.get(name, {}))
    large.load_state_dict(small.state_dict())
    x = images(MNIST)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    torch.testing.assert_close(small(x), large(padded), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["instance", "group", "layer", "batch", "none"])
@pytest.mark.parametrize("pooling", ["avg", "max", "none"])
def test_convnet_options(norm: str, pooling: str) -> None:
    network = build("convnet", CIFAR, width=8, norm=norm, pooling=pooling, activation="gelu")
    x = images(CIFAR)
    logits = network(x)
    assert torch.isfinite(logits).all()
    if norm in ("instance", "layer"):  # these do not see the contrast of an image, but for biases
        for block in network.body:
            block[0].bias.data.zero_()
        torch.testing.assert_close(network(3 * x), network(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "side"),
    [("lenet", 12), ("alexcifarnet", 4), ("convnet", 8), ("alexnet", 8), ("resnet18", 16)],
)
def test_smallest_image(name: str, side: int) -> None:
    assert build(name, (1, side, side), **SMALL.get(name, {})).num_features > 0
    with pytest.raises(DdistError, match=f"at least {side}x{side} pixels, but these are"):
        build(name, (1, side, side - 1), **SMALL.get(name, {}))


def test_lenet_refuses_digits_and_accepts_cifar() -> None:
    with pytest.raises(DdistError, match=r"at least 12x12 pixels, but these are 8x8"):
        build("lenet", (1, 8, 8))
    assert build("lenet", CIFAR).body[7].in_features == 400  # LeNet's own 32x32


def test_mistakes_are_named() -> None:
    with pytest.raises(DdistError, match="depth=3 numbers, but 2 came"):
        build("convnet", CIFAR, width=[8, 8])


def test_building_leaves_no_trace_in_running_statistics() -> None:
    network = ConvNet(10, CIFAR, 2, 8, "batch", "avg", "relu")
    assert all((m.running_mean == 0).all() for m in network.modules() if hasattr(m, "running_mean"))


def test_timm_is_named_when_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(DdistError, match=r"pip install ddist\[timm\]"):
        Timm(10, CIFAR, "resnet10t", {})


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("resnet10t", {"norm_layer": "groupnorm1"}),
        ("vit_tiny_patch16_224", {"patch_size": 8, "depth": 2}),
    ],
)
def test_timm(model: str, options: dict[str, object]) -> None:
    pytest.importorskip("timm")
    network, x = build("timm", CIFAR, model=model, options=options), images(CIFAR)
    random = Random("xavier_normal", 0)
    state = torch.random.get_rng_state()
    weights = random.draw(network, 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    again = random.draw(network, 2)
    assert all(torch.equal(again[name], w) for name, w in weights.items())
    assert any(not torch.equal(w[0], w[1]) for w in weights.values())
    together = second_order(network, weights, x, stacked=True)
    alone = second_order(network, weights, x, stacked=False)
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3 * float(alone.abs().max()))


def test_unknown_timm_model() -> None:
    pytest.importorskip("timm")
    with pytest.raises(DdistError, match="no model 'resnet_of_dreams'"):
        Timm(10, CIFAR, "resnet_of_dreams", {})
