"""Each operation against a reference of one image at a time; then what makes them siamese."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from scipy.ndimage import affine_transform
from torch import Tensor

from ddist.augment import Draw, Siamese
from ddist.seeding import generator
from ddist.tasks.config import conf_dir, option_names, register_resolvers
from ddist.tasks.targets import make

OPERATIONS = ["color", "crop", "cutout", "flip", "scale", "rotate"]
PUBLISHED: dict[str, Any] = {
    "strategy": OPERATIONS,
    "flip": True,
    "prob_flip": 0.5,
    "ratio_scale": 1.2,
    "ratio_rotate": 15.0,
    "ratio_crop_pad": 0.125,
    "ratio_cutout": 0.5,
    "brightness": 1.0,
    "saturation": 2.0,
    "contrast": 0.5,
}


def siamese(*strategy: str, **changes: Any) -> Siamese:
    return Siamese(**{**PUBLISHED, "strategy": list(strategy), **changes})


def images(num: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(num, *(shape or (3, 12, 10)), dtype=dtype, generator=generator(0, "x"))


def uniforms(num: int) -> Tensor:
    return torch.rand(num, 3, dtype=torch.float64, generator=generator(0, "u"))


def each(augment: Siamese, x: Tensor, uniform: Tensor) -> Tensor:
    """``x`` by the first operation of the strategy, image i with row i of ``uniform``."""
    draw = Draw(torch.zeros(len(x), dtype=torch.int64), uniform)
    return augment.apply(x, draw, torch.arange(len(x)))


def all_of(augment: Siamese, x: Tensor, *uniform: float) -> Tensor:
    """``x`` by the first operation of the strategy, every image with the same numbers."""
    numbers = torch.tensor([*uniform, 0.0, 0.0][:3], dtype=torch.float64)
    return each(augment, x, numbers.expand(len(x), 3))


# -- the operations ------------------------------------------------------------------------------


def test_color_is_brightness_then_saturation_then_contrast() -> None:
    x, u = images(9), uniforms(9)
    found = each(siamese("color", brightness=0.7, saturation=1.6, contrast=0.4), x, u)
    for image, (u1, u2, u3), result in zip(x, u, found, strict=True):
        expected = image + (u1 - 0.5) * 0.7
        grey = sum(expected) / 3
        expected = torch.stack([(each - grey) * (u2 * 1.6) + grey for each in expected])
        mean = expected.sum() / expected.numel()
        torch.testing.assert_close(result, (expected - mean) * (u3 + 0.4) + mean)


def test_crop_is_a_window_of_the_padded_image() -> None:
    x, u = images(400), uniforms(400)
    found = each(siamese("crop", ratio_crop_pad=0.25), x, u)
    padded = F.pad(x, (3, 3, 3, 3))  # int(12 / 4 + 0.5) rows, int(10 / 4 + 0.5) columns
    corners = set()
    for image, (u1, u2, _), result in zip(padded, u, found, strict=True):
        top, left = math.floor(u1 * 7), math.floor(u2 * 7)
        assert torch.equal(result, image[:, top : top + 12, left : left + 10])
        corners.add((top, left))
    assert len(corners) == 49


def test_crop_has_its_own_range_for_rows_and_for_columns() -> None:
    x = torch.ones(1, 1, 16, 8)
    far = all_of(siamese("crop"), x, 0.999, 0.999)
    assert far[0, 0, :, 0].sum() == 14 and far[0, 0, 0].sum() == 7
    edge = torch.full((1, 3), 1 - 2**-24)  # the largest below 1
    assert torch.equal(each(siamese("crop"), x, edge), far)


@pytest.mark.parametrize("ratio", [0.5, 0.4, 0.3])  # sides 6 x 5, 5 x 4 and 4 x 3
def test_cutout_sets_one_clipped_rectangle_to_zero(ratio: float) -> None:
    x, u = images(300), uniforms(300)
    found = each(siamese("cutout", ratio_cutout=ratio), x, u)
    height, width = int(12 * ratio + 0.5), int(10 * ratio + 0.5)
    for image, (u1, u2, _), result in zip(x, u, found, strict=True):
        top = math.floor(u1 * (12 if height % 2 else 13)) - height // 2
        left = math.floor(u2 * (10 if width % 2 else 11)) - width // 2
        expected = image.clone()
        for row in range(max(top, 0), min(top + height, 12)):
            for column in range(max(left, 0), min(left + width, 10)):
                expected[:, row, column] = 0
        assert torch.equal(result, expected)
    areas = (found[:, 0] == 0).sum((1, 2))
    assert areas.max() == height * width
    assert areas.min() == ((height + 1) // 2) * ((width + 1) // 2)


def test_flip_mirrors_left_and_right_with_its_probability() -> None:
    x = images(1000)
    found = each(siamese("flip", prob_flip=0.2), x, uniforms(1000))
    flipped = torch.tensor([torch.equal(a, b.flip(2)) for a, b in zip(found, x, strict=True)])
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(found, x, strict=True)])
    assert torch.equal(flipped, ~kept)
    assert 150 < flipped.sum() < 250


def resampled(image: Tensor, matrix: list[list[float]]) -> Tensor:
    """SciPy's reading of one image [C, H, W] at ``matrix`` times (row, column), from the centre."""
    centre = (np.array(image.shape[1:]) - 1) / 2
    offset = centre - np.array(matrix) @ centre
    planes = [
        affine_transform(plane.numpy(), matrix, offset, order=1, mode="grid-constant")
        for plane in image
    ]
    return torch.from_numpy(np.stack(planes))


def test_scale_reads_columns_by_the_first_factor_and_rows_by_the_second() -> None:
    x, u = images(20), uniforms(20)
    found = each(siamese("scale", ratio_scale=1.5), x, u)
    for image, (u1, u2, _), result in zip(x, u.tolist(), found, strict=True):
        sx, sy = (number * (1.5 - 1 / 1.5) + 1 / 1.5 for number in (u1, u2))
        torch.testing.assert_close(result, resampled(image, [[sy, 0], [0, sx]]))


def test_scale_by_one_changes_nothing() -> None:
    x = images(20)
    torch.testing.assert_close(each(siamese("scale", ratio_scale=1.0), x, uniforms(20)), x)


def test_scale_by_two_averages_neighbours_and_lets_zeros_in() -> None:
    x = images(2, 3, 12, 8)
    found = all_of(siamese("scale", ratio_scale=2.0), x, 1.0, 1.0)
    torch.testing.assert_close(found, F.pad(F.avg_pool2d(x, 2), (2, 2, 3, 3)))


@pytest.mark.parametrize("shape", [(3, 12, 12), (3, 12, 10)])
def test_rotate_turns_by_its_angle_whatever_the_shape(shape: tuple[int, ...]) -> None:
    x, u = images(20, *shape), uniforms(20)
    found = each(siamese("rotate", ratio_rotate=60.0), x, u)
    for image, (u1, _, _), result in zip(x, u.tolist(), found, strict=True):
        angle = math.radians((u1 - 0.5) * 2 * 60)
        cos, sin = math.cos(angle), math.sin(angle)
        torch.testing.assert_close(result, resampled(image, [[cos, sin], [-sin, cos]]))


@pytest.mark.parametrize(("number", "quarters"), [(0.75, 1), (0.25, -1), (0.5, 0), (1.0, 2)])
def test_rotate_by_quarters_is_rot90(number: float, quarters: int) -> None:
    x = images(3, 2, 9, 9)
    found = all_of(siamese("rotate", ratio_rotate=180.0), x, number)
    torch.testing.assert_close(found, torch.rot90(x, quarters, (2, 3)))


# -- siamese -------------------------------------------------------------------------------------


def mixed() -> tuple[Siamese, Draw, Tensor, Tensor]:
    """40 images in 12 groups, two of each operation; the groups are not in order."""
    augment = siamese(*OPERATIONS)
    draw = Draw(torch.arange(12) % 6, uniforms(12).float())
    return augment, draw, images(40), torch.arange(40) * 7 % 12


def test_an_image_depends_on_its_group_alone() -> None:
    augment, draw, x, group = mixed()
    found = augment.apply(x, draw, group)
    for i in range(len(x)):
        alone = augment.apply(x[i : i + 1], draw, group[i : i + 1])
        torch.testing.assert_close(found[i : i + 1], alone)
        row = Draw(draw.operation[group[i]][None], draw.uniform[group[i]][None])
        by_itself = augment.apply(x[i : i + 1], row, torch.zeros(1, dtype=torch.int64))
        torch.testing.assert_close(alone, by_itself)


def test_both_branches_are_transformed_alike() -> None:
    augment, draw, x, group = mixed()
    both = augment.apply(torch.cat([x, x[:12]]), draw, torch.cat([group, group[:12]]))
    real, synthetic = augment.apply(x, draw, group), augment.apply(x[:12], draw, group[:12])
    torch.testing.assert_close(both, torch.cat([real, synthetic]))
    torch.testing.assert_close(real[:12], synthetic)


def test_groups_differ() -> None:
    augment, _, _, _ = mixed()
    x = images(1).expand(12, -1, -1, -1)
    numbers = torch.tensor([[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]]).repeat_interleave(6, 0)
    found = augment.apply(x, Draw(torch.arange(12) % 6, numbers), torch.arange(12))
    assert len(found.flatten(1).unique(dim=0)) == 12


@pytest.mark.parametrize("name", OPERATIONS)
def test_images_of_one_group_get_the_same_numbers(name: str) -> None:
    augment, x = siamese(name), images(1).expand(5, -1, -1, -1)
    draw = augment.draw(3, generator(0, "one"))
    found = augment.apply(x, draw, torch.tensor([2, 2, 2, 2, 2]))
    assert all(torch.equal(image, found[0]) for image in found)


def test_evaluation_draws_one_operation_and_numbers_for_each_image() -> None:
    x, mirrored = images(1).expand(20, -1, -1, -1), set()
    for seed in range(10):
        found = siamese("flip", "crop")(x, generator(seed, "call"))
        either = [torch.equal(one, x[0]) or torch.equal(one, x[0].flip(2)) for one in found]
        different = len(found.flatten(1).unique(dim=0))
        assert different == 2 if all(either) else different > 5
        mirrored.add(all(either))
    assert mirrored == {True, False}


# -- draws ---------------------------------------------------------------------------------------


def test_draws_come_from_the_generator_alone() -> None:
    augment, x = siamese(*OPERATIONS), images(8)
    before = torch.get_rng_state()
    one, again, other = (augment.draw(50, generator(seed, "draw")) for seed in (0, 0, 1))
    first, second = (augment(x, generator(3, "call")) for _ in range(2))
    augment.apply(x, one, torch.arange(8))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.operation, again.operation) and torch.equal(one.uniform, again.uniform)
    assert not torch.equal(one.uniform, other.uniform)
    assert torch.equal(first, second)


def test_operations_are_drawn_uniformly_and_numbers_too() -> None:
    draw = siamese(*OPERATIONS).draw(6000, generator(0, "many"))
    assert draw.operation.dtype == torch.int64 and draw.uniform.shape == (6000, 3)
    counts = draw.operation.bincount()
    assert len(counts) == 6 and counts.min() > 850 and counts.max() < 1150
    assert draw.uniform.min() >= 0 and draw.uniform.max() < 1
    torch.testing.assert_close(draw.uniform.mean(0), torch.full((3,), 0.5), atol=0.02, rtol=0)


def test_an_empty_strategy_is_the_identity_and_consumes_nothing() -> None:
    augment, x, stream = siamese(), images(4), generator(0, "unused")
    before = stream.get_state()
    assert augment.apply(x, augment.draw(2, stream), torch.tensor([0, 1, 1, 0])) is x
    assert augment(x, stream) is x
    assert torch.equal(stream.get_state(), before)


def test_without_flip_nothing_is_mirrored() -> None:
    augment = siamese(*OPERATIONS, flip=False, prob_flip=1.0)
    assert augment.strategy == ("color", "crop", "cutout", "scale", "rotate")
    assert augment.draw(1000, generator(0, "many")).operation.max() == 4
    x = images(3)
    assert siamese("flip", flip=False, prob_flip=1.0)(x, generator(0, "call")) is x


# -- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype_and_shape_are_kept(dtype: torch.dtype) -> None:
    augment, draw, x, group = mixed()
    found = augment.apply(x.to(dtype), draw, group)
    assert found.dtype == dtype and found.shape == x.shape
    exact = augment.apply(x, draw, group)
    assert (found.double() - exact).abs().max() < {8: 1e-12, 4: 1e-4, 2: 0.2}[dtype.itemsize]


def transformations() -> list[Callable[[Tensor], Tensor]]:
    """Of six images: each operation, and all of them at once."""
    u, group = uniforms(6), torch.tensor([3, 1, 0, 5, 4, 2])
    alone = [lambda x, name=name: each(siamese(name), x, u) for name in OPERATIONS]
    draw = Draw(torch.arange(6), u)
    return [*alone, lambda x: siamese(*OPERATIONS).apply(x, draw, group)]


@pytest.mark.parametrize("transform", transformations(), ids=[*OPERATIONS, "mixed"])
def test_gradients_are_right_and_twice_differentiable(
    transform: Callable[[Tensor], Tensor],
) -> None:
    x = images(6, 2, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(transform, x)
    assert torch.autograd.gradgradcheck(lambda x: transform(x).square(), x)


@pytest.mark.parametrize("transform", transformations(), ids=[*OPERATIONS, "mixed"])
def test_a_gradient_of_the_weights_can_be_differentiated_by_the_images(
    transform: Callable[[Tensor], Tensor],
) -> None:
    x = images(6, 2, 5, 4).requires_grad_()
    weight = torch.randn(3, 40, dtype=torch.float64, generator=generator(0, "w")).requires_grad_()
    labels = torch.arange(6) % 3

    def gradient(x: Tensor) -> Tensor:
        loss = F.cross_entropy(transform(x).flatten(1).tanh() @ weight.T, labels)
        return torch.autograd.grad(loss, weight, create_graph=True)[0]

    assert torch.autograd.gradcheck(gradient, x)


# -- options -------------------------------------------------------------------------------------


def configured(*overrides: str) -> tuple[dict[str, Any], Siamese]:
    """The settings of ``augment`` in a run with these words on the command line, and what they
    build."""
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", list(overrides)).augment
    augment = make(config)
    assert isinstance(augment, Siamese)
    return {str(key): config[key] for key in config if not str(key).startswith("_")}, augment


def test_nothing_is_augmented_unless_chosen() -> None:
    options, augment = configured()
    assert augment.strategy == ()
    assert options.keys() == PUBLISHED.keys() == configured("augment=dsa")[0].keys()
    assert configured("augment.strategy=[crop]")[1].strategy == ("crop",)


def test_dsa_has_the_published_values_and_mirrors_no_digits() -> None:
    options, augment = configured("augment=dsa", "dataset=cifar10")
    assert options == PUBLISHED
    assert augment.strategy == tuple(OPERATIONS)
    options, augment = configured("augment=dsa", "dataset=mnist")
    assert options == {**PUBLISHED, "flip": False}
    assert augment.strategy == ("color", "crop", "cutout", "scale", "rotate")


@pytest.mark.parametrize("dataset", option_names("dataset"))
def test_every_dataset_says_whether_it_may_be_mirrored(dataset: str) -> None:
    options, _ = configured("augment=dsa", f"dataset={dataset}")
    assert options["flip"] is (dataset not in ("digits", "mnist", "usps", "svhn"))
