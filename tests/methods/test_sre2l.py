"""SRe2L: its loss by the authors' formula, and that a killed run goes on."""

from collections.abc import Callable
from math import cos, pi
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddist import DistilledDataset
from ddist.augment.crop import RandomResizedCrop
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.methods.sre2l import SRe2L
from ddist.networks import MLP, ConvNet
from ddist.seeding import generator
from ddist.tasks.checks import check_start
from ddist.tasks.config import composed_apart, register_resolvers
from ddist.teachers import Committee, Teacher
from tests.pixel import pixel

REAL = pixel(start="real")


class Untrained(Teacher):
    """A network in double precision, with statistics of noise."""

    def load(self, network: nn.Module) -> None:
        for norm in self.batch_norms():
            norm.running_mean.normal_(generator=generator(0, "mean"))
            norm.running_var.uniform_(generator=generator(0, "var"))

    def _known(self) -> tuple[float, int]:
        return 0.0, 0


@pytest.fixture
def teacher(digits: RealData) -> Untrained:
    return Untrained(ConvNet(10, digits.image_shape, 2, 4, "batch", "avg", "relu").double(), digits)


@pytest.fixture
def make(
    common: dict[str, Any], teacher: Untrained, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SRe2L]:
    monkeypatch.setattr(SRe2L, "batch_number", lambda self: 3)
    monkeypatch.setattr(SRe2L, "global_rank", 0)

    def build(**changes: Any) -> SRe2L:
        options = {"ipc": 2, "teacher": teacher, "asked": 1, "batch_classes": 6, "r_bn": 0.05,
                   "first_factor": 10.0, "augment": None, "jitter": 4,
                   "curriculum": 0.0, "blends": 0, "keep": 0.5, "rounds": 1,
                   "lr": {"images": 0.25}}  # fmt: skip
        return SRe2L(**(common | options | changes)).double()

    return build


def authors_loss(teacher: Untrained, x: Tensor, y: Tensor) -> Tensor:
    """get_images of data_synthesis.py, layer by layer."""
    network = teacher.network
    terms, features = [], x
    layers = [m for m in network.body.modules() if not list(m.children())]
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            mean = features.mean([0, 2, 3])
            var = features.transpose(0, 1).reshape(features.shape[1], -1).var(1, unbiased=False)
            terms.append(
                torch.norm(layer.running_var - var, 2) + torch.norm(layer.running_mean - mean, 2)
            )
        features = layer(features)
    logits = network.head(features.flatten(1))
    return F.cross_entropy(logits, y) + 0.05 * (10 * terms[0] + terms[1])


@pytest.mark.parametrize("crop", [False, True])
def test_the_loss_is_the_authors_batch_by_batch(
    make: Callable[..., SRe2L], teacher: Untrained, crop: bool
) -> None:
    """A batch is one image of each of 6 (and then the other 4) classes, augmented and rolled."""
    augment = RandomResizedCrop(scale=[0.3, 1.0], ratio=[1.0, 1.0], mirror=True) if crop else None
    method = make(augment=augment)
    images, labels = method.synthetic()
    total = torch.zeros((), dtype=torch.float64)
    for i, classes, first in ((0, range(6), 0), (0, range(6, 10), 6), (1, range(6), 10),
                              (1, range(6, 10), 16)):  # fmt: skip
        rows = [2 * c + i for c in classes]
        assert labels[rows].tolist() == list(classes)
        stream = generator(0, "recover", 0, 3, first)
        x = images[rows] if augment is None else augment(images[rows], stream)
        down, right = torch.randint(5, (2,), generator=stream).tolist()
        total = total + authors_loss(teacher, torch.roll(x, (down, right), (2, 3)), labels[rows])
    found = method.outer_loss((torch.empty(0), torch.empty(0)))
    torch.testing.assert_close(found, total)
    ours, theirs = (
        torch.autograd.grad(each, method.synthetic.images)[0] for each in (found, total)
    )
    torch.testing.assert_close(ours, theirs)
    assert ours.abs().max() > 1e-4


@pytest.mark.parametrize("milestone", [1.0, 0.4])
def test_the_curriculum_is_cdas(
    make: Callable[..., SRe2L],
    teacher: Untrained,
    monkeypatch: pytest.MonkeyPatch,
    milestone: float,
) -> None:
    """get_images of recover_cda_tiny.py, "cosine", iteration by iteration: the whole image first,
    0.08 of its area at last."""
    ratio = (0.75, 4 / 3)
    crop = RandomResizedCrop(scale=(0.08, 1.0), ratio=ratio, mirror=True)
    method = make(ipc=1, batch_classes=10, augment=crop, curriculum=milestone, jitter=0)
    images, labels = method.synthetic()
    monkeypatch.setattr(SRe2L, "trainer", SimpleNamespace(max_steps=20))
    smallest = []
    for iteration in range(20):
        monkeypatch.setattr(SRe2L, "global_step", iteration)
        min_crop = 0.08
        if iteration < milestone * 20:
            min_crop += (1 - 0.08) * (1 + cos(pi * iteration / (milestone * 20))) / 2
        smallest.append(min_crop)
        theirs = RandomResizedCrop(scale=(min_crop, 1.0), ratio=ratio, mirror=True)
        x = theirs(images, generator(0, "recover", 0, 3, 0))
        loss = method.outer_loss((torch.empty(0), torch.empty(0)))
        torch.testing.assert_close(loss, authors_loss(teacher, x, labels))
    assert smallest[0] == 1.0 and smallest[-1] < 0.1


def test_noise_is_not_blended_in_again() -> None:
    register_resolvers()
    words = ["method=sre2l", "dataset=digits", "method.blends=1"]
    with pytest.raises(DdistError, match=r"started at, which is noise: set synthetic\.start=real"):
        check_start(composed_apart(words))
    check_start(composed_apart([*words, "synthetic.start=real"]))


def test_a_curriculum_without_crops_is_one_sentence(make: Callable[..., SRe2L]) -> None:
    with pytest.raises(DdistError, match=r"method\.augment does not crop: .*curriculum=0\.$"):
        make(curriculum=1.0)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_blends_are_fadrms(
    make: Callable[..., SRe2L],
    teacher: Untrained,
    monkeypatch: pytest.MonkeyPatch,
    accumulated: int,
) -> None:
    """get_images of the authors' recover.py at one resolution: budgets of 2, 3 and 2 steps, each
    with an Adam of its own, alpha = 0.7."""
    method = make(ipc=1, batch_classes=10, jitter=0, blends=2, keep=0.7, synthetic=REAL)
    first, labels = (tensor.detach().clone() for tensor in method.synthetic())
    inputs = first.clone()
    for budget in (2, 2, 3):
        if not torch.equal(inputs, first):
            inputs = 0.7 * inputs.detach() + (1 - 0.7) * first
        inputs.requires_grad_()
        adam = torch.optim.Adam([inputs], lr=0.1, betas=(0.5, 0.9))
        for _ in range(budget):
            adam.zero_grad()
            authors_loss(teacher, inputs, labels).backward()
            adam.step()
    ours = torch.optim.Adam(method.parameters(), lr=0.1, betas=(0.5, 0.9))
    trainer = SimpleNamespace(
        max_steps=7, accumulate_grad_batches=accumulated, optimizers=[ours], world_size=1
    )
    monkeypatch.setattr(SRe2L, "trainer", trainer)
    nothing = torch.empty(0), torch.empty(0)
    for batch in range(7 * accumulated):
        monkeypatch.setattr(SRe2L, "global_step", batch // accumulated)
        monkeypatch.setattr(SRe2L, "batch_number", lambda self, batch=batch: batch)
        method.on_train_batch_start(nothing, batch)
        (method.outer_loss(nothing) / accumulated).backward()
        if batch % accumulated == accumulated - 1:
            ours.step()
            ours.zero_grad()
    torch.testing.assert_close(method.synthetic()[0], inputs)


@pytest.mark.parametrize(("ipc", "rounds"), [(5, 3), (4, 4), (2, 3)])
def test_images_join_in_delts_rounds(
    make: Callable[..., SRe2L],
    teacher: Untrained,
    monkeypatch: pytest.MonkeyPatch,
    ipc: int,
    rounds: int,
) -> None:
    """get_round_imgs_indx of the authors' recover.py: the round that each image of a class starts
    in. Whoever has not started is not moved by Adam either."""
    in_round = np.ones(rounds, dtype=int) * (ipc // rounds)
    in_round[: ipc % rounds] += 1
    starts = [int((image < in_round.cumsum()).nonzero()[0][0]) for image in range(ipc)]
    method = make(ipc=ipc, batch_classes=10, rounds=rounds, jitter=0)
    images, labels = method.synthetic()
    first = images.detach().clone()
    adam = torch.optim.Adam(method.parameters(), lr=0.1, betas=(0.5, 0.9))
    monkeypatch.setattr(SRe2L, "trainer", SimpleNamespace(max_steps=2 * rounds))
    for step in range(2 * rounds):
        monkeypatch.setattr(SRe2L, "global_step", step)
        learned = [image for image in range(ipc) if starts[image] <= step // 2]
        expected = [authors_loss(teacher, images[i::ipc], labels[i::ipc]) for i in learned]
        adam.zero_grad()
        loss = method.outer_loss((torch.empty(0), torch.empty(0)))
        torch.testing.assert_close(loss, torch.stack(expected).sum())
        loss.backward()
        adam.step()
        moved = (images != first).flatten(1).any(1).view(10, ipc)
        assert (moved == torch.tensor([image in learned for image in range(ipc)])).all()


@pytest.mark.parametrize("asked", [1, 2, None])
def test_members_of_a_committee_take_turns(
    make: Callable[..., SRe2L], digits: RealData, monkeypatch: pytest.MonkeyPatch, asked: int | None
) -> None:
    """Each loss has the first factor for its own first layer; the teacher of the mean of the logits
    has another."""
    members = [
        Untrained(ConvNet(10, digits.image_shape, 2, w, "batch", "avg", "relu").double(), digits)
        for w in (3, 4, 5)
    ]
    committee = Committee(members=members)
    monkeypatch.setattr(Committee, "_known", lambda self: (0.0, 0))
    method = make(ipc=1, batch_classes=10, jitter=0, teacher=committee, asked=asked)
    images, labels = method.synthetic()
    losses = [authors_loss(member, images, labels) for member in members]
    torch.testing.assert_close(
        committee.predict(images), sum(member.network(images) for member in members) / 3
    )
    turns = {1: ((0,), (1,), (2,), (0,)), 2: ((0, 1), (2, 0), (1, 2)), None: ((0, 1, 2),) * 2}
    for step, turn in enumerate(turns[asked]):
        monkeypatch.setattr(SRe2L, "batch_number", lambda self, step=step: step)
        expected = torch.stack([losses[k] for k in turn]).mean()
        found = method.outer_loss((torch.empty(0), torch.empty(0)))
        torch.testing.assert_close(found, expected)


def test_only_the_images_are_learned(make: Callable[..., SRe2L], teacher: Untrained) -> None:
    method = make()
    assert [name for name, _ in method.named_parameters()] == ["synthetic.images"]
    assert teacher.network is not None
    assert not any(p.requires_grad for p in teacher.network.parameters())


def test_a_teacher_without_statistics_is_one_sentence(
    make: Callable[..., SRe2L], teacher: Untrained, digits: RealData
) -> None:
    plain = Untrained(MLP(10, digits.image_shape, [8], "relu"), digits)
    for wrong in (plain, Committee(members=[teacher, plain])):
        with pytest.raises(DdistError, match=r"statistics of batch normalisation.*=convnet_bn\.$"):
            make(teacher=wrong)


def test_more_members_than_there_are_cannot_be_asked(make: Callable[..., SRe2L]) -> None:
    with pytest.raises(DdistError, match=r"^method\.asked=2 .* the teacher has 1: name more"):
        make(asked=2)


RUN = (
    "method=sre2l", "dataset=digits", "network.width=8", "network.depth=2", "teacher.epochs=2",
    "evaluation.num_networks=1", "evaluation.epochs=2", "paths.cache=cache",
)  # fmt: skip


def test_killed_and_resumed_it_ends_with_the_same_images(same_after_a_kill: Any) -> None:
    assert same_after_a_kill(4, *RUN, "steps=7", "method.blends=2",
                            "synthetic.start=real")  # fmt: skip


def test_images_come_to_be_of_their_class_within_the_range_of_pixels(ddist: Any) -> None:
    done = ddist(*RUN, "steps=60", "method.jitter=1",
                 "teacher.store=true", "teacher.temperature=1", "ipc=2",
                 "evaluation=dc2021", "evaluation.epochs=2", "task.baseline=false",
                 "hydra.run.dir=run")  # fmt: skip
    assert (done.code, done.err) == (0, ""), done.err
    distilled = DistilledDataset.load(ddist.folder / "run" / "distilled")
    classes = torch.arange(10).repeat_interleave(2)
    assert float((distilled.labels.argmax(1) == classes).float().mean()) > 0.9
    pixels = distilled._pixels()
    assert pixels.min() > -1e-5 and pixels.max() < 1 + 1e-5


def test_a_network_without_batch_normalisation_on_the_command_line(ddist: Any) -> None:
    done = ddist("method=sre2l", "dataset=digits", "network=mlp", "hydra.run.dir=run")
    assert done.code == 1 and done.err.count("\n") == 1
    assert "choose one that has them, such as teacher.network=convnet_bn." in done.err
