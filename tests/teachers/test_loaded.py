"""Teachers from files: read, checked, refused in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.networks import ConvNet
from ddist.teachers import Loaded, Published
from ddist.teachers.loaded import read_names

NAMES = [str(digit) for digit in range(10)]


@pytest.fixture
def network(small_network: Callable[[], ConvNet]) -> ConvNet:
    """With statistics that are not those of a new one."""
    made = small_network()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
    return made.eval()


@pytest.fixture
def load(digits: RealData, small_network: Callable[[], ConvNet]) -> Callable[..., Loaded]:
    def make(path: Path | None, **changes: Any) -> Loaded:
        options = {"network": small_network(), "source": digits, "class_names": None,
                   "mean": None, "std": None}  # fmt: skip
        return Loaded(weights=None if path is None else str(path), **(options | changes))

    return make


def test_what_was_saved_is_asked(
    network: ConvNet, load: Any, digits: RealData, tmp_path: Path
) -> None:
    x = digits.normalization(digits.test.x[:50])
    state = network.state_dict()
    save_file(state, tmp_path / "a.safetensors", {"class_names": json.dumps(NAMES)})
    torch.save(state, tmp_path / "b.pth")
    wrapped = {f"module.{name}": w for name, w in state.items()}
    torch.save({"epoch": 3, "state_dict": wrapped, "class_names": NAMES}, tmp_path / "c.pt")
    for name in ("a.safetensors", "b.pth", "c.pt"):
        torch.testing.assert_close(load(tmp_path / name).predict(x), network(x))


def test_images_come_in_the_space_it_was_trained_in(
    network: ConvNet, load: Any, digits: RealData, tmp_path: Path
) -> None:
    torch.save(network.state_dict(), tmp_path / "b.pth")
    pixels = digits.test.x[:50]
    teacher = load(tmp_path / "b.pth", mean=[0.25], std=[0.5])
    expected = network((pixels / 255 - 0.25) / 0.5)
    torch.testing.assert_close(teacher.predict(digits.normalization(pixels)), expected)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_logits_are_in_the_order_of_the_datasets_classes(
    network: ConvNet, load: Any, digits: RealData, tmp_path: Path, suffix: str
) -> None:
    path, order = tmp_path / f"a.{suffix}", [1, 2, 0, *range(3, 10)]
    names = [str(number) for number in order]
    if suffix == "pt":
        torch.save({"model": network.state_dict(), "class_names": names}, path)
    else:
        save_file(network.state_dict(), path, {"class_names": json.dumps(names)})
    x = digits.normalization(digits.test.x[:50])
    theirs = network(x).detach()
    expected = torch.stack([theirs[:, order.index(c)] for c in range(10)], 1)
    torch.testing.assert_close(load(path).predict(x), expected)
    torch.testing.assert_close(load(path).with_inputs(x)[0], expected)
    torch.testing.assert_close(load(path, class_names=order).predict(x), expected)
    torch.testing.assert_close(load(path, class_names=NAMES).predict(x), theirs)  # knows better


def test_other_classes_are_refused(network: ConvNet, load: Any, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "a.pt")
    for names, said in (
        (NAMES[:9], "9 classes are not the 10 of digits .class 9 is 'none' there and '9' here"),
        (["zero", *NAMES[1:]], "10 classes are not the 10 of digits .class 0 is 'zero' there"),
        ([1, 0], "2 classes are not the 10 of digits .class 0 is '1' there and '0' here"),
        ([*NAMES[:9], "8"], "class 9 is '8' there and '9' here"),
    ):
        with pytest.raises(DdistError, match=said):
            load(tmp_path / "a.pt", class_names=names).check()


@pytest.mark.parametrize("text", [
    "\n".join(NAMES), "\n".join(NAMES) + "\n", "\r\n".join(NAMES), "\ufeff" + "\n".join(NAMES),
    "\r\n".join(NAMES) + "\r\n\r\n \n",
])  # fmt: skip
def test_names_in_a_text_file(network: ConvNet, load: Any, tmp_path: Path, text: str) -> None:
    torch.save(network.state_dict(), tmp_path / "a.pt")
    (tmp_path / "names.txt").write_bytes(text.encode())
    load(tmp_path / "a.pt", class_names=str(tmp_path / "names.txt")).check()
    assert read_names(str(tmp_path / "names.txt")) == NAMES


def test_a_file_of_names_that_cannot_be_read(network: ConvNet, load: Any, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "a.pt")
    with pytest.raises(DdistError, match=r"a list or a text file; nowhere\.txt cannot be read"):
        load(tmp_path / "a.pt", class_names="nowhere.txt").check()
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe0\x00")
    with pytest.raises(DdistError, match=r"names\.txt cannot be read .it is no text in UTF-8"):
        load(tmp_path / "a.pt", class_names=str(tmp_path / "names.txt")).check()


def test_files_that_cannot_be_read_are_named(network: ConvNet, load: Any, tmp_path: Path) -> None:
    x = torch.zeros(1, 1, 8, 8)
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    torch.save(network.state_dict(), tmp_path / "b.pth")
    for name in ("a.safetensors", "b.pth"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(
            DdistError, match=rf"The teacher's file .*{name} cannot be read .*copy it"
        ):
            load(path).predict(x)
    for name, content in (("c.pth", b""), ("d.pth", b"not a network"), ("e.safetensors", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DdistError, match=rf"{name} cannot be read"):
            load(tmp_path / name).predict(x)
    torch.save(network, tmp_path / "f.pth")  # a pickled module
    with pytest.raises(DdistError, match=r"f\.pth cannot be read .it holds a pickled .*ConvNet"):
        load(tmp_path / "f.pth").check()
    torch.save([1], tmp_path / "g.pth")
    with pytest.raises(DdistError, match=r"g\.pth are not those .*no weights by name, a list"):
        load(tmp_path / "g.pth").check()
    with pytest.raises(DdistError, match=r"There is no file .*none\.pth, which teacher\.weights"):
        load(tmp_path / "none.pth").predict(x)
    with pytest.raises(DdistError, match=r"Name their file: teacher\.weights=FILE"):
        load(None).predict(x)


def test_weights_of_another_network_are_refused(load: Any, tmp_path: Path) -> None:
    torch.save(
        ConvNet(10, (1, 8, 8), 2, 9, "batch", "avg", "relu").state_dict(), tmp_path / "b.pth"
    )
    said = (
        r"b\.pth are not those of this network for 10 classes \(body\.0\.0\.weight is \[9, 1, 3, 3"
        r"\] there and \[8, 1, 3, 3\] here"
    )
    with pytest.raises(DdistError, match=said):
        load(tmp_path / "b.pth").check()  # before anything is asked


@pytest.fixture
def publish(real_data: Callable[..., RealData]) -> Callable[..., Published]:
    source = real_data("digits", channels=3, size=32).load()

    def make(**changes: Any) -> Published:
        options = {
            "library": "torchvision",
            "model": "shufflenet_v2_x0_5",
            "source": source,
            "weights": None,
            "class_names": None,
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
        }
        return Published(**(options | changes))

    return make


def test_torchvisions_network_with_a_local_file(publish: Any, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    network = get_model("shufflenet_v2_x0_5", num_classes=10).eval()
    torch.set_rng_state(before)
    torch.save(network.state_dict(), tmp_path / "tiny.pth")
    teacher = publish(weights=str(tmp_path / "tiny.pth"))
    pixels = teacher.source.test.x[:9]
    torch.testing.assert_close(
        teacher.predict(teacher.source.normalization(pixels)), network(pixels / 255 / 0.5 - 1)
    )
    assert len(teacher.batch_norms()) == 56
    assert torch.equal(torch.get_rng_state(), before)


def test_names_that_nobody_knows(publish: Any, digits: RealData) -> None:
    x = torch.zeros(1, 3, 32, 32)
    with pytest.raises(DdistError, match=r"no weights 'V9' of shufflenet_v2_x0_5: .*IMAGENET1K_V1"):
        publish(weights="V9").predict(x)
    with pytest.raises(DdistError, match=r"torchvision cannot build the teacher 'resent18'"):
        publish(model="resent18")
    with pytest.raises(DdistError, match=r"colour images: set dataset.channels=3"):
        publish(source=digits)
    with pytest.raises(DdistError, match=r"There is no file nowhere.pth"):
        publish(weights="nowhere.pth").predict(x)


def test_published_classes_are_compared_too(publish: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for ImageNet's numbers, in which its folders are sorted."""
    from torchvision.models import ShuffleNet_V2_X0_5_Weights as Weights

    state = get_model("shufflenet_v2_x0_5", num_classes=10).state_dict()
    monkeypatch.setattr(Weights, "get_state_dict", lambda self, **options: state)
    x = torch.zeros(1, 3, 32, 32)
    teacher = publish(weights="IMAGENET1K_V1")
    with pytest.raises(DdistError, match=r"class 0 is 'tench' there and '0' here"):
        teacher.predict(x)
    numbered = publish(weights="IMAGENET1K_V1")
    numbered.source.class_names = tuple(f"n{k:08d}" for k in range(10))
    assert numbered.predict(x).shape == (1, 10)


def test_timm_is_missing_or_used(publish: Any) -> None:
    try:
        import timm  # noqa: F401
    except ImportError:
        with pytest.raises(DdistError, match=r"^teacher=timm needs the timm library"):
            publish(library="timm", model="resnet18")
        return
    with pytest.raises(DdistError, match="timm cannot build the teacher 'resent18'"):
        publish(library="timm", model="resent18")
