"""dataset=voc_crops and dataset=cub200, on small folders in the published layouts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddist.data import RealData
from ddist.data.sources.boxes import VOC
from ddist.errors import DdistError

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""


def colour(label: int) -> tuple[int, int, int]:
    return (10 * label + 20, 250 - 10 * label, 7 * label)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Each picture is grey and has a box of its class's colour, pixels 5..14 by 3..22, counted from
    1, and one that is difficult."""
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for part, names in lists.items():
        for label, kind in enumerate(VOC):
            name = f"{part}{label:02d}"
            names.append(name)
            pixels = np.full((40, 30, 3), 128, np.uint8)
            pixels[2:22, 4:14] = colour(label)
            picture = Image.fromarray(pixels)
            picture.save(root / "JPEGImages" / f"{name}.jpg", format="png")  # nothing is lost
            things = [(kind, 0, (5, 3, 14, 22)), ("person", 1, (1, 1, 30, 40))]
            written = [OBJECT.format(name=n, difficult=d, box=b) for n, d, b in things]
            text = f"<annotation>{''.join(written)}</annotation>"
            (root / "Annotations" / f"{name}.xml").write_text(text)
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names) + "\n")
    return root


def test_voc_boxes_are_cut_out(voc: Path, real_data: Callable[..., RealData]) -> None:
    data = real_data("voc_crops", size=24).load()
    assert data.image_shape == (3, 24, 24) and data.class_names == VOC
    assert data.train.y.tolist() == data.test.y.tolist() == list(range(20))  # no difficult person
    for x, label in zip(data.train.x, data.train.y.tolist(), strict=True):
        expected = torch.tensor(colour(label), dtype=torch.uint8)[:, None, None]
        assert torch.equal(x, expected.expand(3, 24, 24))  # the box and nothing around it


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda root: (root / "ImageSets/Main/test.txt").unlink(), "voc_crops is not in"),
        (lambda root: (root / "JPEGImages/test03.jpg").unlink(), "test03.jpg is missing"),
        (lambda root: (root / "Annotations/test03.xml").write_text("<a"), "test03.xml cannot be"),
        (lambda root: (root / "ImageSets/Main/test.txt").write_text(""), "names no picture"),
    ],
)
def test_what_is_wrong_with_a_voc_folder(
    voc: Path,
    real_data: Callable[..., RealData],
    spoil: Callable[[Path], None],
    sentence: str,
) -> None:
    spoil(voc)
    with pytest.raises(DdistError, match=sentence):
        real_data("voc_crops", size=24).load()


def test_voc_needs_a_size(voc: Path, real_data: Callable[..., RealData]) -> None:
    with pytest.raises(DdistError, match=r"set dataset\.size=224"):
        real_data("voc_crops", size=None).load()


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    """Two species with two pictures each, wider than high, their sides another colour."""
    root = tmp_path / "CUB_200_2011"
    tables: dict[str, list[str]] = {
        name: [] for name in ("images", "image_class_labels", "train_test_split")
    }
    species = ["001.Auk", "002.Gull"]
    for key in range(1, 5):
        label, training = (key - 1) // 2, key % 2
        file = root / "images" / species[label] / f"{key}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((20, 40, 3), np.uint8)
        pixels[:, 10:30] = colour(key)
        Image.fromarray(pixels).save(file, format="png")
        tables["images"].append(f"{key} {species[label]}/{key}.jpg")
        tables["image_class_labels"].append(f"{key} {label + 1}")
        tables["train_test_split"].append(f"{key} {training}")
    tables["classes"] = [f"{label + 1} {name}" for label, name in enumerate(species)]
    for name, lines in tables.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def test_cub_is_split_as_its_files_say(cub: Path, real_data: Callable[..., RealData]) -> None:
    data = real_data("cub200", size=20, verify=False).load()
    assert data.class_names == ("Auk", "Gull")
    assert data.train.y.tolist() == data.test.y.tolist() == [0, 1]
    for split, keys in ((data.train, (1, 3)), (data.test, (2, 4))):
        for x, key in zip(split.x, keys, strict=True):
            expected = torch.tensor(colour(key), dtype=torch.uint8)[:, None, None]
            assert torch.equal(x, expected.expand(3, 20, 20))  # the centre


def test_what_is_wrong_with_a_cub_folder(cub: Path, real_data: Callable[..., RealData]) -> None:
    with pytest.raises(DdistError, match=r"expected 200 classes, 5994 train .* got 2, 2 and 2"):
        real_data("cub200", size=20).load()
    (cub / "image_class_labels.txt").write_text("1 1\n2 1\n3 9\n4 2\n")
    with pytest.raises(DdistError, match="disagree on picture 3"):
        real_data("cub200", size=20, verify=False).load()
    (cub / "images.txt").unlink()
    with pytest.raises(DdistError, match=r"cub200 is not in .* dataset\.download=true"):
        real_data("cub200", size=20, verify=False).load()
