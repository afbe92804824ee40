"""Starts: against the data themselves, and against scikit-learn."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch import Tensor

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.seeding import generator
from ddist.synthetic.start import start_images

LABELS = torch.arange(10).repeat_interleave(3)


def start(name: str, data: RealData, labels: Tensor = LABELS, seed: int = 0) -> Tensor:
    return start_images(name, data, labels, generator(seed, "test"))


def images_of(data: RealData, c: int) -> Tensor:
    """The training images of a class, normalised: found by label, not by position."""
    return data.normalization(data.train.x[data.train.y == c])


def index_in(image: Tensor, images: Tensor) -> list[int]:
    same = (images == image).flatten(1).all(1)
    return torch.nonzero(same).flatten().tolist()


@pytest.mark.parametrize("name", ["noise", "real", "average", "kmeans"])
def test_every_start_fills_every_place_and_repeats_itself(digits: RealData, name: str) -> None:
    images = start(name, digits)
    assert images.shape == (30, 1, 8, 8) and images.dtype == torch.float32
    assert images.flatten(1).std(1).min() > 0.1
    assert torch.equal(images, start(name, digits))


@pytest.mark.parametrize("name", ["noise", "real", "kmeans"])
def test_random_starts_depend_on_the_seed(digits: RealData, name: str) -> None:
    assert not torch.equal(start(name, digits), start(name, digits, seed=1))


def test_noise_is_standard_normal(digits: RealData) -> None:
    pixels = start("noise", digits, torch.zeros(1000, dtype=torch.int64)).flatten()
    assert abs(float(pixels.mean())) < 0.02 and abs(float(pixels.std()) - 1) < 0.02


def test_real_images_are_different_ones_of_the_right_class(digits: RealData) -> None:
    labels = torch.tensor([3, 1, 3, 3, 0, 1])  # in any order, in any number
    images = start("real", digits, labels)
    for c in (0, 1, 3):
        found = [index_in(image, images_of(digits, c)) for image in images[labels == c]]
        assert all(found), "an image of another class, or of none"
        assert len({each[0] for each in found}) == len(found)


def test_real_images_can_be_a_whole_class(digits: RealData) -> None:
    whole = images_of(digits, 2)
    images = start("real", digits, torch.full((len(whole),), 2))
    assert sorted(index_in(image, whole)[0] for image in images) == list(range(len(whole)))


def test_average_is_the_mean_in_training_space(digits: RealData) -> None:
    images = start("average", digits)
    for c in range(10):
        expected = images_of(digits, c).numpy().astype(np.float64).mean(0)
        for image in images[c == LABELS]:
            torch.testing.assert_close(
                image.double(), torch.from_numpy(expected), atol=1e-5, rtol=0
            )


def test_average_is_that_of_scikit_learns_digits(digits: RealData) -> None:
    """In pixels: within rounding to 8 bits and what 1/4 held-out images change."""
    pixels = digits.normalization.inverse(start("average", digits, torch.arange(10)))[:, 0]
    x, y = load_digits(return_X_y=True)
    expected = np.stack([x[y == c].mean(0) for c in range(10)]).reshape(10, 8, 8) / 16
    assert np.abs(pixels.numpy() - expected).max() < 0.05


def test_kmeans_of_one_is_the_average(digits: RealData) -> None:
    labels = torch.arange(10)
    torch.testing.assert_close(
        start("kmeans", digits, labels), start("average", digits, labels), atol=1e-5, rtol=0
    )


def test_kmeans_is_scikit_learns(digits: RealData) -> None:
    """The same centroids as a direct call with the seed that the stream gives next."""
    images, stream = start("kmeans", digits), generator(0, "test")
    for c in range(10):
        seed = int(torch.randint(2**31, (), generator=stream))
        x = images_of(digits, c).flatten(1).numpy()
        expected = KMeans(3, n_init=1, random_state=seed).fit(x).cluster_centers_
        np.testing.assert_allclose(images[c == LABELS].flatten(1).numpy(), expected, atol=1e-5)


def test_kmeans_centroids_are_means_of_their_nearest_images(digits: RealData) -> None:
    """A fixed point of Lloyd's iteration, whoever found it."""
    images = start("kmeans", digits)
    for c in range(10):
        x, centroids = images_of(digits, c).flatten(1), images[c == LABELS].flatten(1)
        nearest = torch.cdist(x, centroids).argmin(1)
        means = torch.stack([x[nearest == k].mean(0) for k in range(3)])
        torch.testing.assert_close(centroids, means, atol=1e-4, rtol=0)


@pytest.mark.parametrize("scale", ["memory", "disk"])
@pytest.mark.parametrize("name", ["real", "kmeans"])
def test_a_class_of_few_images_is_repeated_evenly_or_refused(
    name: str, scale: str, real_data: Callable[..., RealData], tmp_path: Path
) -> None:
    for c, count in (("few", 2), ("many", 9)):
        for i in range(count):
            (tmp_path / "p" / "train" / c).mkdir(parents=True, exist_ok=True)
            (tmp_path / "p" / "test" / c).mkdir(parents=True, exist_ok=True)
            colour = (20 * i, 9 * i + count, 200 - i)
            Image.new("RGB", (4, 4), colour).save(tmp_path / "p" / "train" / c / f"{i}.png")
            Image.new("RGB", (4, 4), colour[::-1]).save(tmp_path / "p" / "test" / c / f"{i}.png")
    source = {"folder": str(tmp_path / "p"), "in_memory": 0 if scale == "disk" else 256}
    data = real_data("imagefolder", source=source).load()
    labels = torch.arange(2).repeat_interleave(5)
    with pytest.raises(DdistError, match=r"5 different real images of the class few.* has 2"):
        start_images(name, data, labels, generator(0), "refuse")
    images = start_images(name, data, labels, generator(0), "repeat")
    counted = images[:5].flatten(1).unique(dim=0, return_counts=True)[1]
    assert sorted(counted.tolist()) == [2, 3]
    assert len(images[5:].flatten(1).unique(dim=0)) == 5
    assert start_images("noise", data, labels, generator(0), "refuse").shape == images.shape
