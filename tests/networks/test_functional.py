"""Every network of conf/network against its layers written out with torch.nn.functional, in double
precision: a layer that is missing, moved or of another kind shows. (ImageNet's AlexNet is compared
with torchvision's in tests/init/test_imagenet.py.)"""

from collections.abc import Callable, Iterable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddist.networks import Network
from ddist.networks.layers import ACTIVATIONS, NORMS, POOLINGS
from ddist.seeding import generator
from ddist.tasks.config import option_names, read_option
from ddist.tasks.targets import make
from tests.usual import usual_option

LIBRARY = {"timm", "backbone", "backbone_lite2"}  # whose networks are timm's own
CIFAR, MNIST = (3, 32, 32), (1, 28, 28)
PLAIN = {"relu": F.relu, "leaky_relu": F.leaky_relu, "gelu": F.gelu, "sigmoid": torch.sigmoid,
         "tanh": torch.tanh}  # fmt: skip
GROUPS = {"instance": None, "group": 4, "layer": 1}  # None: one for each channel


class Layers:
    """Layers that take the network's ``parameters`` one after the other."""

    def __init__(self, parameters: Iterable[Tensor], norm: str) -> None:
        self.parameters, self.kind = list(parameters), norm

    def conv(self, x: Tensor, *, bias: bool = True, **options: int) -> Tensor:
        weight = self.parameters.pop(0)
        return F.conv2d(x, weight, self.parameters.pop(0) if bias else None, **options)

    def linear(self, x: Tensor) -> Tensor:
        return x @ self.parameters.pop(0).T + self.parameters.pop(0)

    def norm(self, x: Tensor) -> Tensor:
        """Of a batch in training: less the mean, over the root of the variance + 1e-5."""
        if self.kind == "none":
            return x
        if self.kind == "batch":
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        else:
            groups = x.unflatten(1, (GROUPS[self.kind] or x.shape[1], -1)).flatten(2)
            mean, variance = groups.mean(2, keepdim=True), groups.var(2, correction=0, keepdim=True)
            x = ((groups - mean) / (variance + 1e-5).sqrt()).view(x.shape)
        weight, bias = (self.parameters.pop(0)[:, None, None] for _ in range(2))
        return x * weight + bias


def lenet(use: Layers, x: Tensor) -> Tensor:
    x = F.max_pool2d(F.relu(use.conv(x, padding=2 if x.shape[2] < 32 else 0)), 2)
    x = F.max_pool2d(F.relu(use.conv(x)), 2).flatten(1)
    return use.linear(F.relu(use.linear(F.relu(use.linear(x)))))


def alexcifarnet(use: Layers, x: Tensor) -> Tensor:
    def response_norm(x: Tensor) -> Tensor:
        return F.local_response_norm(x, 4, alpha=0.001 / 9, beta=0.75, k=1.0)

    x = F.max_pool2d(F.relu(use.conv(x, padding=2)), 3, 2, 1)
    x = response_norm(F.relu(use.conv(response_norm(x), padding=2)))
    x = F.max_pool2d(x, 3, 2, 1).flatten(1)
    return use.linear(F.relu(use.linear(F.relu(use.linear(x)))))


def alexnet(use: Layers, x: Tensor) -> Tensor:
    x = F.max_pool2d(F.relu(use.conv(x, padding=4 if x.shape[2] == 28 else 2)), 2)
    x = F.max_pool2d(F.relu(use.conv(x, padding=2)), 2)
    x = F.relu(use.conv(F.relu(use.conv(x, padding=1)), padding=1))
    return use.linear(F.max_pool2d(F.relu(use.conv(x, padding=1)), 2).flatten(1))


def vgg11(use: Layers, x: Tensor) -> Tensor:
    padding = 3 if x.shape[2] == 28 else 1
    for pooled in (True, True, False, True, False, True, False, True):
        x, padding = F.relu(use.norm(use.conv(x, padding=padding))), 1
        x = F.max_pool2d(x, 2) if pooled else x
    return use.linear(x.flatten(1))


def resnet18(use: Layers, x: Tensor) -> Tensor:
    x = F.relu(use.norm(use.conv(x, bias=False, padding=1)))
    for stage, block in product(range(4), range(2)):
        stride = 2 if stage > 0 and block == 0 else 1
        inside = F.relu(use.norm(use.conv(x, bias=False, stride=stride, padding=1)))
        inside = use.norm(use.conv(inside, bias=False, padding=1))
        beside = use.norm(use.conv(x, bias=False, stride=2)) if stride == 2 else x
        x = F.relu(inside + beside)
    return use.linear(x.mean((2, 3)))


def convnet(
    use: Layers, x: Tensor, depth: int = 3, activation: str = "relu", pooling: str = "avg"
) -> Tensor:
    padding = 3 if x.shape[2] == 28 else 1
    for _ in range(depth):
        x, padding = PLAIN[activation](use.norm(use.conv(x, padding=padding))), 1
        if pooling != "none":
            x = (F.max_pool2d if pooling == "max" else F.avg_pool2d)(x, 2)
    return use.linear(x.flatten(1))


def mlp(use: Layers, x: Tensor, activation: str = "relu") -> Tensor:
    x = x.flatten(1)
    for _ in range(2):
        x = PLAIN[activation](use.linear(x))
    return use.linear(x)


REFERENCES: dict[str, Callable[..., Tensor]] = {
    "lenet": lenet, "alexcifarnet": alexcifarnet, "alexnet": alexnet, "mlp": mlp,
    "vgg11": vgg11, "vgg11_bn": vgg11, "resnet18": resnet18, "resnet18_bn": resnet18,
    "convnet": convnet, "convnet_bn": convnet, "convnet_wide_bn": convnet,
}  # fmt: skip


def build(name: str, shape: tuple[int, int, int], **options: object) -> Network:
    """In double precision, all its parameters random, those of normalisation too."""
    config = usual_option("network", name)
    network: Network = make({**config, **options}, num_classes=10, image_shape=shape).double()
    for number, (key, w) in enumerate(network.named_parameters()):
        noise = torch.randn(w.shape, generator=generator(0, "w", number), dtype=w.dtype)
        is_scale = w.ndim == 1 and key.endswith("weight")
        # He et al. 2015: activations neither vanish nor explode
        spread = 0.3 if w.ndim == 1 else (2 / w[0].numel()) ** 0.5
        w.data = noise * spread + is_scale
    return network


def assert_same(name: str, network: Network, norm: str, shape: tuple[int, int, int],
                **options: object) -> None:  # fmt: skip
    """With and without gradients, for which layers here have different code."""
    x = torch.randn(2, *shape, generator=generator(0, "x"), dtype=torch.float64)
    use = Layers([w.detach() for w in network.parameters()], norm)
    expected = REFERENCES[name](use, x, **options)
    assert not use.parameters and expected.std() > 1e-2  # there is something to compare
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(network(x).detach(), expected, rtol=1e-8, atol=1e-10)


def test_every_network_has_a_reference() -> None:
    assert {*option_names("network")} - LIBRARY == REFERENCES.keys()


@pytest.mark.parametrize("shape", [CIFAR, MNIST], ids=["32x32", "28x28"])
@pytest.mark.parametrize("name", REFERENCES)
def test_it_is_what_its_file_says(name: str, shape: tuple[int, int, int]) -> None:
    narrow = {"convnet": 6, "convnet_bn": 6, "convnet_wide_bn": [6, 8, 10]}
    options = {"width": narrow[name]} if name in narrow else {}
    config = read_option("network", name)
    assert_same(name, build(name, shape, **options), config.get("norm", "none"), shape)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
def test_its_normalisation_is_the_one_that_is_set(name: str, norm: str) -> None:
    assert_same(name, build(name, CIFAR, norm=norm), norm, CIFAR)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_a_convnet_is_what_is_set(norm: str, activation: str, pooling: str) -> None:
    shape = (2, 9, 10)  # an odd row is left out by pooling
    options = {"depth": 2, "activation": activation, "pooling": pooling}
    network = build("convnet", shape, width=8, norm=norm, **options)
    assert_same("convnet", network, norm, shape, **options)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_mlp_has_the_activation_that_is_set(activation: str) -> None:
    network = build("mlp", MNIST, activation=activation)
    assert_same("mlp", network, "none", MNIST, activation=activation)
