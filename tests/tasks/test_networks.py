"""Networks of somebody's own: built with what they take, checked before anything is trained."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import nn

from ddist.errors import DdistError
from ddist.init import Random
from ddist.inner.stacking import member
from ddist.methods.cafe import layer_outputs
from ddist.networks import Network, embed
from ddist.tasks.config import composed_apart
from ddist.tasks.networks import build_network, build_network_for

SHAPE = (3, 8, 8)
DATA: Any = SimpleNamespace(num_classes=4, image_shape=SHAPE)


class Plain(nn.Module):
    """A convolution, its mean over pixels, and a linear layer: the base of all below."""

    def __init__(self, num_classes: int, image_shape: tuple[int, int, int], width: int = 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(image_shape[0], width, 3, padding=1)
        self.fc = nn.Linear(width, num_classes)

    def features(self, x: Any) -> Any:
        return torch.relu(self.conv(x)).mean((2, 3))

    def forward(self, x: Any) -> Any:
        return self.fc(self.features(x))


class HardCoded(Plain):
    def __init__(self) -> None:
        super().__init__(4, SHAPE)


class Needy(Plain):
    def __init__(self, n_classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(n_classes, image_shape)


class FiveOutputs(Plain):
    def __init__(self, num_classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(5, image_shape)


class WrongSize(Plain):
    def features(self, x: Any) -> Any:
        return super().features(x.reshape(-1, 3, 27))


class Pair(Plain):
    def forward(self, x: Any) -> Any:
        return self.features(x), self.fc(self.features(x))


class Dict(Plain):
    def forward(self, x: Any) -> Any:
        return {"logits": self.fc(self.features(x))}


class Squeezed(Plain):
    def forward(self, x: Any) -> Any:
        return super().forward(x).squeeze()


class Softmax(Plain):
    def forward(self, x: Any) -> Any:
        return super().forward(x).softmax(1)


class LogSoftmax(Plain):
    def forward(self, x: Any) -> Any:
        return super().forward(x).log_softmax(1)


class Lazy(Plain):
    def __init__(self, num_classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(num_classes, image_shape)
        self.conv = nn.LazyConv2d(6, 3)
        self.fc = nn.LazyLinear(num_classes)


class Dropout(Plain):
    def features(self, x: Any) -> Any:
        return F.dropout(super().features(x), 0.1, self.training)


class Depth(Plain):
    """Stochastic depth by hand: no layer is called after it."""

    def forward(self, x: Any) -> Any:
        return super().forward(x * (torch.rand(()) > 0.1) if self.training else x)


class InPlaceInside(Plain):
    def features(self, x: Any) -> Any:
        h = self.conv(x)
        h += 1
        return F.relu(h, inplace=True).mean((2, 3))


class InPlaceOnImages(Plain):
    def forward(self, x: Any) -> Any:
        return super().forward(F.relu(x, inplace=True))


class IntoZeros(Plain):
    def features(self, x: Any) -> Any:
        h = torch.zeros(len(x), 6)
        h[:] = super().features(x)
        return h


class Detached(Plain):
    def features(self, x: Any) -> Any:
        return super().features(x).detach()


class Surplus(Plain):
    def __init__(self, num_classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(num_classes, image_shape)
        self.aux = nn.Linear(6, num_classes)


class OwnParameter(Plain):
    def __init__(self, num_classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(num_classes, image_shape)
        self.scale = nn.Parameter(torch.ones(6))

    def features(self, x: Any) -> Any:
        return super().features(x) * self.scale


class Normalised(Plain):
    """With batch normalisation, and a loop that depends on data, which vmap cannot have."""

    def __init__(self, num_classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(num_classes, image_shape)
        self.norm = nn.BatchNorm2d(6)

    def features(self, x: Any) -> Any:
        h = self.norm(self.conv(x))
        return h.mean((2, 3)) if h.mean().item() > 1e6 else h.relu().mean((2, 3))


class NotAModule:
    def __init__(self, num_classes: int, image_shape: tuple[int, int, int]) -> None:
        pass


class Forgetful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3)  # type: ignore[call-arg]


class Broken(Plain):
    def __init__(self, num_classes: int, image_shape: tuple[int, int, int]) -> None:
        raise KeyError("no such block")


class Headless(nn.Sequential):
    def __init__(self, num_classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(nn.Conv2d(3, num_classes, 8), nn.Flatten())


class Bent(Network):
    """A Network whose logits are not those of its head."""

    def __init__(self, num_classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(nn.Flatten(), num_classes, image_shape)

    def forward(self, x: Any) -> Any:
        return 2 * super().forward(x)


def with_options(**options: Any) -> nn.Module:
    """As torchvision's functions are: what they hand on takes num_classes, but no image_shape."""

    def make(num_classes: int = 1000) -> nn.Module:
        return Plain(num_classes, SHAPE)

    return make(**options)


def build(network: Any, **options: Any) -> nn.Module:
    features = options.pop("features", False)
    target = f"{__name__}.{network if isinstance(network, str) else network.__name__}"
    return build_network(DictConfig({"_target_": target, **options}), DATA, features=features)


@pytest.mark.parametrize("network", [
    Plain, HardCoded, Lazy, InPlaceInside, Normalised, LogSoftmax, Headless, with_options,
])  # fmt: skip
@pytest.mark.parametrize("partial", [{}, {"_partial_": True}])
def test_what_maps_images_to_logits_works(network: Any, partial: dict[str, bool]) -> None:
    before = torch.get_rng_state()
    made = build(network, **partial)
    assert torch.equal(torch.get_rng_state(), before) and made.training
    assert made(torch.zeros(2, *SHAPE)).shape == (2, 4)
    Random("xavier_normal", 0).draw(made, 2)  # no lazy layer is left


def test_statistics_stay_as_they_were() -> None:
    made = build(Normalised)
    assert torch.equal(made.norm.running_mean, torch.zeros(6))  # type: ignore[union-attr]
    assert made.norm.num_batches_tracked == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(("network", "sentence"), [
    (Needy, r"also wants 'n_classes': set that beside it .* num_classes and image_shape"),
    (FiveOutputs, r"returns \[1, 5\], not logits \[1, 4\], for a batch of 1: as many outputs"),
    (WrongSize, r"fails on images of 3x8x8 \(RuntimeError: shape '\[-1, 3, 27\]' is invalid"),
    (Pair, r"returns a tuple, not a tensor of logits \[1, 4\]"),
    (Dict, r"returns a dict, not a tensor of logits \[1, 4\]"),
    (Squeezed, r"returns \[4\], not logits \[1, 4\]"),
    (Softmax, r"returns probabilities, .* leave out its softmax"),
    (Dropout, r"draws random numbers in training mode \(dropout, .* set its rate to 0"),
    (Depth, r"draws random numbers in training mode"),
    (InPlaceOnImages, r"changes the images that it is given"),
    (IntoZeros, r"fails on several sets of weights at once, torch\.func\.vmap \(RuntimeErr"),
    (Detached, r"do not depend on the images"),
    (Surplus, r"do not depend on aux\.weight"),
    (OwnParameter, r"Fresh weights cannot be drawn for OwnParameter \(scale\)"),
    (NotAModule, r"makes a NotAModule, not a torch\.nn\.Module"),
    (Broken, r"cannot be built: .*test_networks\.py, line \d+, in __init__: KeyError: 'no such"),
    (Forgetful, r"cannot be built: .*test_networks\.py, line \d+, in __init__: TypeError: "),
    ("Nothing", r"Nothing is nothing that Python can import: there is no 'Nothing' in"),
])  # fmt: skip
def test_what_cannot_work_is_one_sentence(network: Any, sentence: str) -> None:
    with pytest.raises(DdistError, match=sentence):
        build(network)


def test_settings_that_it_does_not_take_are_named() -> None:
    with pytest.raises(DdistError, match=r"does not take 'depth', which is set beside it"):
        build(Plain, depth=3)
    assert build(Plain, width=9).fc.in_features == 9  # type: ignore[union-attr]


def test_a_teacher_that_is_only_asked_may_have_dropout() -> None:
    config = DictConfig({"_target_": f"{__name__}.Dropout"})
    assert build_network(config, DATA, trains=False)(torch.zeros(2, *SHAPE)).shape == (2, 4)


@pytest.mark.parametrize("network", [Plain, HardCoded, Lazy, Normalised])
def test_features_are_what_the_last_linear_layer_is_given(network: Any) -> None:
    made = build(network, features=True).eval()
    drawn = member(Random("default", 0).draw(made, 1), 0)
    x = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = embed(made, drawn, x)
    made.load_state_dict(drawn, strict=False)
    torch.testing.assert_close(found, made.features(x))
    assert isinstance(made.fc, nn.Linear)  # is back in its place
    found.sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


@pytest.mark.parametrize("network", [Headless, LogSoftmax, Bent])
def test_a_network_without_features_is_refused_where_they_matter(network: Any) -> None:
    assert build(network)
    with pytest.raises(DdistError, match=r"has no features, which this method compares"):
        build(network, features=True)


@pytest.mark.parametrize("method", ["DM", "NCFM", "FRePo", "CAFE", "Coreset"])
def test_methods_that_compare_features_are_known(method: str) -> None:
    config, part = (
        DictConfig({"_target_": target})
        for target in (f"{__name__}.Headless", f"ddist.methods.{method}")
    )
    with pytest.raises(DdistError, match=r"has no features, which this method compares"):
        build_network_for(part, config, DATA)
    assert build_network_for(DictConfig({"_target_": "ddist.methods.DC"}), config, DATA)


def test_cafe_takes_the_features_of_another_module_as_its_layer() -> None:
    made = build(Plain)
    drawn = member(Random("default", 0).draw(made, 1), 0)
    x = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    for layer in layer_outputs(made, drawn, x):
        torch.testing.assert_close(layer, embed(made, drawn, x))


def test_a_mapping_that_is_empty_by_default_can_be_filled() -> None:
    """The example of conf/network/timm.yaml."""
    cfg = composed_apart(["network=timm", "network.options={patch_size: 8}"])
    assert cfg.network.options == {"patch_size": 8}
