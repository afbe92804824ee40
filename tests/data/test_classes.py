"""Some of a dataset's classes, in any order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddist.data import RealData
from ddist.data.classes import choose_classes
from ddist.data.sources import pictures
from ddist.errors import DdistError

Factory = Callable[..., RealData]


@pytest.mark.parametrize("classes", [[7, 2, 4], ["7", "2", "4"], [7, "2", 4]])
def test_chosen_classes_are_numbered_in_their_order(
    classes: list[int | str], real_data: Factory
) -> None:
    whole, some = real_data("digits").load(), real_data("digits", classes=classes).load()
    assert some.class_names == ("7", "2", "4") and some.num_classes == 3
    for new, old in enumerate((7, 2, 4)):
        for part, all_of in ((some.train, whole.train), (some.test, whole.test)):
            assert torch.equal(part.x[part.y == new], all_of.x[all_of.y == old])
    assert len(some.train) == sum(whole.train.counts[c] for c in (7, 2, 4))
    chosen = torch.cat([whole.train.x[whole.train.y == c] for c in (7, 2, 4)])
    x = some.normalization(chosen)  # of these images alone
    assert abs(float(x.mean())) < 1e-4 and abs(float(x.std()) - 1) < 1e-3
    other = real_data("digits", classes=[2, 7, 4]).load()
    assert len({each.fingerprint() for each in (whole, some, other)}) == 3


def test_all_classes_are_the_dataset_as_it_is(real_data: Factory) -> None:
    whole, same = real_data("digits").load(), real_data("digits", classes=list(range(10))).load()
    assert torch.equal(whole.train.x, same.train.x) and whole.fingerprint() == same.fingerprint()


def test_validation_and_subset_come_after(real_data: Factory) -> None:
    data = real_data("digits", classes=[3, 1], validation=0.5, subset=10).load()
    assert data.validation is not None
    assert (data.train.counts, data.validation.counts) == ((5, 5), (5, 5))


@pytest.mark.parametrize("in_memory", [256, 0])
def test_other_class_folders_are_not_decoded(
    in_memory: int, real_data: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["ant", "bee", "cat", "dog"]
    for number, name in enumerate(names * 5):
        (tmp_path / "p" / name).mkdir(parents=True, exist_ok=True)
        colour = (10 * number, 200 - 5 * number, 3 * number)
        Image.new("RGB", (4, 4), colour).save(tmp_path / "p" / name / f"{number:02d}.png")
    (tmp_path / "p" / "ant" / "00.png").write_bytes(b"damaged, but not wanted")
    decoded: list[Path] = []
    decode = pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda p, *a: (decoded.append(p), decode(p, *a))[1])
    source = {"folder": str(tmp_path / "p"), "in_memory": in_memory}
    data = real_data("imagefolder", source=source, classes=["dog", 1]).load()
    assert data.class_names == ("dog", "bee") and {path.parent.name for path in decoded} == {
        "dog", "bee",
    }  # fmt: skip
    Image.new("RGB", (4, 4)).save(tmp_path / "p" / "ant" / "00.png")
    whole = real_data("imagefolder", source=source).load()
    x, x_whole = (each.test.x[: len(each.test)].flatten(1) for each in (data, whole))
    assert torch.equal(x, x_whole[[3, 1]]), "the drawn test pictures are those of the whole"


def test_classes_of_arrays(real_data: Factory, tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    y = np.array([0, 1, 2, 0, 1, 2])
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y,
             class_names=np.array(["a", "b", "c"]))  # fmt: skip
    data = real_data("arrays", source={"file": str(tmp_path / "a.npz")}, classes=["c", "a"]).load()
    assert data.class_names == ("c", "a")
    assert data.train.x[:, 0, 0, 0].tolist() == [2, 5, 0, 3]


def test_a_number_that_is_a_name_means_that_class() -> None:
    assert choose_classes("own", ["1", "10", "2"], [2, 1]) == [2, 0]
    assert choose_classes("own", ["a", "b", "c"], None) == [0, 1, 2]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["cow", "ant"], r"own has no class 'cow' .did you mean crow\?.: choose from its 4 names"),
        ([0, 4], r"own has no class 4: choose .* or the numbers from 0 to 3"),
        ([0, -1], r"own has no class -1"),
        ([True, 0], r"own has no class True"),
        ([0, "ant"], r"class ant of own is chosen twice"),
        (["crane", "ant"], r"classes 2, 3 of own are all called crane: choose by number"),
    ],
)
def test_mistakes_are_named(wanted: list[int | str], message: str) -> None:
    with pytest.raises(DdistError, match=message):
        choose_classes("own", ["ant", "crow", "crane", "crane"], wanted)
