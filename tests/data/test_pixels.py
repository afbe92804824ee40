import numpy as np
import pytest
import torch
from PIL import Image

from ddist.data.pixels import to_channels, to_size
from ddist.seeding import generator


def pictures(channels: int, size: int = 16) -> torch.Tensor:
    return torch.randint(
        256, (5, channels, size, size), dtype=torch.uint8, generator=generator(0, "pictures")
    )


def test_grey_is_what_pillow_makes_of_rgb() -> None:
    x = pictures(3)
    for image, grey in zip(x, to_channels(x, 1), strict=True):
        expected = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        assert np.abs(grey[0].numpy().astype(int) - expected).max() <= 1


def test_rgb_repeats_grey_and_the_same_channels_change_nothing() -> None:
    x = pictures(1)
    assert torch.equal(to_channels(x, 3), torch.cat([x, x, x], 1))
    assert to_channels(x, 1) is x


@pytest.mark.parametrize("size", [8, 28])
def test_resizing_is_what_pillow_does(size: int) -> None:
    x = pictures(1)
    for image, resized in zip(x, to_size(x, size), strict=True):
        picture = Image.fromarray(image[0].numpy())
        expected = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
        assert np.abs(resized[0].numpy().astype(int) - expected).max() <= 1


def test_same_size_changes_nothing() -> None:
    x = pictures(1)
    assert to_size(x, 16) is x
