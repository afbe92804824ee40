import torch
import torch.nn.functional as F

from ddist.data.augmentation import crop_flip
from ddist.seeding import generator


def test_equals_padding_cropping_and_flipping_one_by_one() -> None:
    x = torch.rand(64, 3, 12, 10, generator=generator(0, "x"))
    found = crop_flip(x, generator(0, "augment"))

    draws = generator(0, "augment")
    rows, columns = (torch.randint(9, (64, 1), generator=draws).flatten() for _ in range(2))
    flips = torch.randint(2, (64, 1), generator=draws).flatten()
    padded = F.pad(x, (4, 4, 4, 4), mode="reflect")
    for i, image in enumerate(padded):
        expected = image[:, rows[i] : rows[i] + 12, columns[i] : columns[i] + 10]
        assert torch.equal(found[i], expected.flip(2) if flips[i] else expected)


def test_draws_every_offset_and_both_sides_for_each_image() -> None:
    x = torch.arange(32 * 32, dtype=torch.float32).view(1, 1, 32, 32).expand(4000, 1, 32, 32)
    found = crop_flip(x, generator(0, "many"))
    centres = found[:, 0, 16, 16].long()
    assert len(centres.unique()) == 9 * 10  # 9 rows; columns 12..20 mirrored are 11..19
    assert found.shape == x.shape


def test_keeps_uint8_and_depends_on_the_generator_alone() -> None:
    x = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8, generator=generator(0, "x"))
    once, again = (crop_flip(x, generator(1, "same")) for _ in range(2))
    assert once.dtype == torch.uint8
    assert torch.equal(once, again)
    assert not torch.equal(once, crop_flip(x, generator(2, "other")))
