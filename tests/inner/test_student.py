"""The minibatches of a student."""

import torch

from ddist.inner.student import draw_rows


def test_batches_go_through_all_images_before_they_repeat() -> None:
    rows = draw_rows(20, 5, 9, torch.Generator().manual_seed(0))
    assert [len(each) for each in rows] == [5] * 9
    for first in (0, 4):
        assert torch.equal(torch.cat(rows[first : first + 4]).sort().values, torch.arange(20))
    assert not torch.equal(torch.cat(rows[:4]), torch.cat(rows[4:8]))


def test_all_images_come_in_order() -> None:
    for size in (None, 20, 30):
        rows = draw_rows(20, size, 3, torch.Generator())
        assert len(rows) == 3 and all(torch.equal(each, torch.arange(20)) for each in rows)
