"""M3D, DataDAM, DCC and DREAM: their equations written out, and what they refuse."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from ddist.errors import DdistError
from ddist.matching.discrepancy import mean_discrepancy
from ddist.methods import DC, DM, IDM, M3D, DataDAM
from ddist.methods.matching import Matching
from ddist.networks import MLP, embed
from ddist.seeding import generator
from tests.methods.test_matching import STUDENT

Make = Callable[..., Matching]


def indices_of(method: Matching, per_class: int = 5) -> Tensor:
    return method.data.class_indices(per_class, generator(0, "real", 0))


def network_of(method: Matching) -> dict[str, Tensor]:
    return {n: w[0] for n, w in method.init.draw(method.network, 1, 0, method.at).items()}


def sides(method: Matching, indices: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Real and synthetic images of each class."""
    images, synthetic = method.synthetic.images, method.synthetic.classes
    return [(method.data.images(indices[c]), images[synthetic == c]) for c in range(10)]


def m3d_by_hand(method: Matching, indices: Tensor) -> Tensor:
    scales = torch.tensor([0.5, 2.0])
    w = network_of(method)
    terms = [
        mean_discrepancy(*(embed(method.network, w, x)[None] for x in pair), scales)
        for pair in sides(method, indices)
    ]
    return torch.stack(terms).sum()


def datadam_by_hand(method: Matching, indices: Tensor) -> Tensor:
    w = network_of(method)
    total = torch.zeros((), dtype=torch.float64)
    first = list(method.network.body.children())

    def looked(x: Tensor) -> Tensor:
        """After the first of two blocks."""
        for position, child in enumerate(first):
            if position and any(p.ndim > 1 for p in child.parameters()):
                break
            name = f"body.{next(n for n, m in method.network.body.named_children() if m is child)}."
            own = {n.removeprefix(name): v for n, v in w.items() if n.startswith(name)}
            x = functional_call(child, own, (x,))
        maps = (x**2).sum(1)
        return maps / maps.square().sum((1, 2), keepdim=True).sqrt()

    for pair in sides(method, indices):
        looks = [looked(x).mean(0) for x in pair]
        means = [embed(method.network, w, x).mean(0) for x in pair]
        total = total + (looks[0] - looks[1]).square().sum()
        total = total + 0.3 * (means[0] - means[1]).square().sum()
    return total


def dcc_by_hand(method: Matching, indices: Tensor) -> Tensor:
    leaves = {name: w.clone().requires_grad_() for name, w in network_of(method).items()}
    gradients = []
    for side in range(2):
        losses = [
            cross_entropy(functional_call(method.network, leaves, (x,)), torch.full((len(x),), c))
            for c, x in enumerate(pair[side] for pair in sides(method, indices))
        ]
        total = torch.stack(losses).sum()
        gradients.append(torch.autograd.grad(total, list(leaves.values()), create_graph=True))
    loss = torch.zeros((), dtype=torch.float64)
    for real, synthetic in zip(*gradients, strict=True):
        if real.ndim > 1:
            r, s = real.detach().flatten(1), synthetic.flatten(1)
            cos = (r * s).sum(1) / (r.norm(dim=1) * s.norm(dim=1) + 1e-6)
            loss = loss + (1 - cos).sum()
    return loss


@pytest.mark.parametrize(
    ("kind", "options", "by_hand"),
    [
        (M3D, {"scales": [0.5, 2.0]}, m3d_by_hand),
        (DataDAM, {"power": 2.0, "balance": 0.3}, datadam_by_hand),
        (DC, {**STUDENT, "sum_classes": True}, dcc_by_hand),
    ],
)
def test_loss_and_gradient_are_the_papers(
    make_matching: Make,
    kind: type[Matching],
    options: dict[str, Any],
    by_hand: Callable[[Matching, Tensor], Tensor],
    assert_the_papers: Callable[..., None],
) -> None:
    method = make_matching(kind, num_networks=1, **options)
    assert_the_papers(method, indices_of(method), by_hand)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(M3D, {"scales": [1.0]}), (DataDAM, {"power": 4.0, "balance": 0.01})],
)
def test_classes_at_once_change_nothing(
    make_matching: Make, kind: type[Matching], options: Any, assert_same_losses: Any
) -> None:
    one, all_ = (make_matching(kind, num_networks=1, classes_at_once=n, **options) for n in (3, 10))
    assert_same_losses(one, all_, indices_of(one))


POOL: dict[str, Any] = {
    "num_pool": 2, "max_updates": 2, "class_weight": 0.7, "student_images": 32,
    "student_epochs": 1, "student_lr": 0.05, "student_momentum": 0.9, "student_batch_size": 8,
}  # fmt: skip


def test_idms_loss_is_dms_and_a_cross_entropy(
    make_matching: Make, assert_the_papers: Callable[..., None]
) -> None:
    def by_hand(method: Matching, indices: Tensor) -> Tensor:
        pool = method.init.draw(method.network, 2, 0, 0)
        w = {name: v[method.serving()].double() for name, v in pool.items()}  # type: ignore[operator]
        total = torch.zeros((), dtype=torch.float64)
        for c, pair in enumerate(sides(method, indices)):
            means = [embed(method.network, w, x).mean(0) for x in pair]
            logits = functional_call(method.network, w, (pair[1],))
            surprise = cross_entropy(logits, torch.full((len(logits),), c))
            total = total + (means[0] - means[1]).square().sum() + 0.7 * surprise
        return total

    method = make_matching(IDM, **POOL)
    assert_the_papers(method, indices_of(method), by_hand)


def test_idms_networks_are_trained_and_replaced(make_matching: Make) -> None:
    """One of them at a time, on real images, until it has served often enough."""
    method = make_matching(IDM, **POOL)
    assert isinstance(method, IDM)
    seen: list[tuple[int, dict[str, Tensor], Tensor]] = []
    for step in range(8):
        method.at = step  # type: ignore[attr-defined]
        method.networks_of_step()
        students = method._students_at
        assert students is not None
        seen.append((method.serving(), students.weights, students.figures))
    first = seen[0][1]["head.weight"].clone()
    assert {k for k, _, _ in seen} == {0, 1}
    images, labels = method.data.images(indices_of(method, 40)), torch.arange(10)[:, None]

    def loss(w: dict[str, Tensor], k: int) -> float:
        logits = functional_call(
            method.network, {n: v[k] for n, v in w.items()}, (images.flatten(0, 1),)
        )
        return float(cross_entropy(logits, labels.expand(10, 40).flatten()))

    for before, (k, weights, ages) in pairwise(seen):
        other = 1 - k
        assert torch.equal(weights["head.weight"][other], before[1]["head.weight"][other])
        age = int(before[2][k])
        assert int(ages[k]) == (1 if age == 2 else age + 1)
        if age == 1:
            assert loss(weights, k) < loss(before[1], k)  # trained
        if age == 2:
            assert not torch.allclose(weights["head.weight"][k], first[k])  # fresh
    assert any(int(ages[k]) == 1 for k, _, ages in seen[4:])


def test_a_network_of_one_layer_has_nothing_to_look_at(make_matching: Make, digits: Any) -> None:
    network = MLP(10, digits.image_shape, widths=[12], activation="relu").double()
    with pytest.raises(DdistError, match="maps of layers before the last"):
        make_matching(DataDAM, num_networks=1, power=4.0, balance=0.1, network=network)


def test_unequal_classes_are_not_summed(make_matching: Make) -> None:
    with pytest.raises(DdistError, match="equally many images"):
        make_matching(
            DC, num_networks=1, **STUDENT | {"sum_classes": True}, images_per_class=[1] * 9 + [2]
        )


def test_representatives_are_the_middles_of_clusters_for_some_steps(make_matching: Make) -> None:
    """Real images of their class, nearer to all candidates than random ones; the same for as long
    as is said, and for a run that begins there."""
    method = make_matching(DM, num_networks=1, cluster_from=60, cluster_every=2)
    assert method.representatives is not None
    rows = [method.representatives.rows(at, 6, 0) for at in range(4)]
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows[2], rows[3])
    assert not torch.equal(rows[1], rows[2])
    assert method.data.train.y[rows[0]].tolist() == [[c] * 6 for c in range(10)]
    fresh = make_matching(DM, num_networks=1, cluster_from=60, cluster_every=2)
    assert fresh.representatives is not None
    assert torch.equal(fresh.representatives.rows(3, 6, 0), rows[3])
    method.at = 3  # type: ignore[attr-defined]
    loss = method.outer_loss(torch.zeros(10, 6, dtype=torch.int64))
    plain = make_matching(DM, num_networks=1)
    plain.at = 3  # type: ignore[attr-defined]
    torch.testing.assert_close(loss, plain.outer_loss(rows[3]))

    stream = generator(0, "clusters", 0, 0)
    candidates = method.data.class_indices(60, stream)

    def spread(chosen: Tensor) -> float:
        """The mean square distance of the candidates' features to the nearest chosen ones."""
        total = 0.0
        for c in range(10):
            all_, few = (
                method.features_at(0, method.data.images(x)[None])[0]
                for x in (candidates[c], chosen[c])
            )
            total += float(torch.cdist(all_, few).min(1).values.square().mean())
        return total

    random = [method.data.class_indices(6, generator(k, "other")) for k in range(3)]
    assert spread(rows[0]) < 0.9 * min(spread(chosen) for chosen in random)


def test_fewer_candidates_than_clusters_are_refused(ddist: Any) -> None:
    done = ddist(
        "method=dm", "dataset=digits", "method.cluster_from=4", "method.real_per_class=8", "ipc=1"
    )
    assert done.code != 0 and "method.real_per_class=8 clusters: choose more" in done.err
