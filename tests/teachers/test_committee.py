"""A committee of trained teachers: its settings, its labels, and that each is trained once."""

from collections.abc import Callable
from typing import Any

import torch

from ddist import DistilledDataset
from ddist.data import RealData
from ddist.networks import MLP
from ddist.teachers import Committee, Trained


def test_labels_are_of_the_mean_of_the_logits(
    make_teacher: Callable[..., Trained], digits: RealData
) -> None:
    members = [make_teacher(), make_teacher(network=MLP(10, digits.image_shape, [8], "relu"))]
    x = digits.normalization(digits.test.x)[:5]
    logits = [member.predict(x) for member in members]
    committee = Committee(members=members)
    expected = ((logits[0] + logits[1]) / 2 / 20).softmax(1)
    torch.testing.assert_close(committee.probabilities(x, 20.0), expected)
    assert not torch.allclose(*logits)


RUN = (
    "teacher=committee", "teacher.network=['${network}',mlp]", "teacher.epochs=1",
    "network.width=8", "network.depth=2", "dataset=digits", "evaluation.num_networks=1",
    "evaluation.epochs=2", "paths.cache=cache", "hydra.run.dir=run",
)  # fmt: skip


def test_a_run_with_a_committee(ddist: Any) -> None:
    """Each member is trained once, and scores, labels and evaluates with the others."""
    done = ddist("method=rded", *RUN, "method.candidates=20", "teacher.store=true")
    assert (done.code, done.err) == (0, ""), done.err
    assert len(list((ddist.folder / "cache" / "teachers").glob("*.safetensors"))) == 2
    assert done.out.count("Training the teacher") == 2
    labels = DistilledDataset.load(ddist.folder / "run" / "distilled").labels.float()
    torch.testing.assert_close(labels.sum(1), torch.ones(10), rtol=0, atol=0.01)


def test_all_members_need_batch_normalisation_for_sre2l(ddist: Any) -> None:
    done = ddist("method=sre2l", *RUN)
    assert done.code == 1 and done.err.count("\n") == 1
    assert "which this teacher has not" in done.err
