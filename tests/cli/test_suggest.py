"""What somebody may have meant by a name that is not known."""

import pytest

from ddist.cli.suggest import near

KNOWN = [
    "steps", "method", "method.lr", "method.lr.images", "method.lr.labels", "method.student_steps",
    "method.step_size", "network", "network.widths", "reference.coreset.per_class",
    "evaluation.epochs", "evaluation.num_networks",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("stps", "steps"),
        ("methd", "method"),
        ("student_step", "method.student_steps"),
        ("method.lr.image", "method.lr.images"),
        ("method.lr.labls", "method.lr.labels"),
        ("network.width", "network.widths"),
        ("method.epochs", "evaluation.epochs"),  # of another group
        ("metod.step_size", "method.step_size"),
        ("evalution.epochs", "evaluation.epochs"),
        ("method.real_per_class", ""),  # of another method: not like method.lr.labels
        ("method.unlike", ""),
        ("zzz", ""),
    ],
)
def test_the_nearest_name_is_of_the_same_group_or_ends_alike(name: str, meant: str) -> None:
    assert near(name, KNOWN) == meant
