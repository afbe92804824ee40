"""The table of published figures, and how far one's own are from it."""

import re
from collections import Counter
from dataclasses import replace
from math import sqrt

import pytest

from ddist.compare.gather import Accuracy, read
from ddist.compare.published import KNOWN, compare, published_figures
from ddist.config import conf_dir

NETWORKS = {"convnet": {"width": 128, "depth": 3}}


def options(group: str) -> set[str]:
    return {file.stem for file in (conf_dir() / group).glob("*.yaml")}


def test_every_figure_names_its_source_and_what_ddist_has() -> None:
    figures = published_figures()
    assert len(figures) > 250
    for each in figures:
        assert 0 < each.mean < 1 and (each.std is None or 0 <= each.std < 0.1), each
        assert each.known in KNOWN and each.paper and re.fullmatch(r"\d{4}\.\d{5}", each.arxiv)
        assert each.method in options("method") | {"full"}, each
        assert each.dataset in options("dataset"), each
        for network in each.networks:
            known = network == "none" or network.split()[0] in options("network")
            assert known or each.protocol == "krr", each
        assert {name.split(".")[0] for name in each.settings} <= {"network", "synthetic", "init"}


def test_no_figure_is_there_twice() -> None:
    counts = Counter(
        (e.method, e.dataset, e.ipc, e.protocol, e.networks, tuple(map(str, e.settings.items())))
        for e in published_figures()
    )
    assert [key for key, count in counts.items() if count > 1] == []


@pytest.mark.parametrize(
    ("method", "dataset", "ipc", "mean", "std", "known"),
    [
        ("mtt", "cifar10", 1, 46.3, 0.8, "seen"),
        ("dsa", "fashion_mnist", 10, 84.6, 0.3, "seen"),
        ("dm", "mnist", 10, 97.5, 0.1, "memory"),
        ("ddpp", "cifar100", 50, 48.4, 0.3, "comparison"),
        ("datm", "tiny_imagenet", 50, 39.7, 0.3, "seen"),
        ("kip", "mnist", 50, 98.4, None, "seen"),
    ],
)
def test_figures_are_those_of_the_papers(method, dataset, ipc, mean, std, known) -> None:
    found = [
        e for e in published_figures() if (e.method, e.dataset, e.ipc) == (method, dataset, ipc)
    ]
    assert len(found) == 1
    assert found[0].mean == pytest.approx(mean / 100) and found[0].known == known
    assert found[0].std == (None if std is None else pytest.approx(std / 100))


def test_a_difference_is_flagged_beyond_two_joint_standard_deviations(write) -> None:
    (figure,) = read(write("a"), {})
    joint = sqrt(0.01**2 + 0.006**2)  # published: 89.7 ± 0.6
    for accuracy, flagged in ((0.897 - 1.9 * joint, False), (0.897 - 2.1 * joint, True)):
        found = compare(figure, Accuracy(accuracy, 0.01, 5), NETWORKS, 2.0, 2.0)
        assert found.difference == pytest.approx(accuracy - 0.897)
        assert found.flagged is flagged


def test_without_any_deviation_it_is_points(write) -> None:
    kip = {"method": "kip", "evaluation.0.network": "fc1 relu ntk", "baselines": {}}
    (figure,) = read(write("a", kip, protocol="krr"), {})
    for accuracy, flagged in ((0.84, False), (0.83, True)):  # published: 85.5
        assert compare(figure, Accuracy(accuracy, None, 1), {}, 2.0, 2.0).flagged is flagged


def test_other_widths_networks_and_protocols_are_not_compared(write) -> None:
    (figure,) = read(write("a"), {})
    narrow = {**figure.config, "network": {"width": 32, "depth": 3}}
    other = compare(replace(figure, config=narrow), figure.accuracy, NETWORKS, 2.0, 2.0)
    assert (other.difference, other.flagged) == (None, False)
    assert other.note == "not compared: width 32, published 128"
    other = compare(replace(figure, network="mlp"), figure.accuracy, NETWORKS, 2.0, 2.0)
    assert other.note == "not compared: network mlp, published convnet"
    other = compare(replace(figure, protocol="dc2021"), figure.accuracy, NETWORKS, 2.0, 2.0)
    assert (other.published, other.note) == (None, "published only under dc2021_dsa")
    # a network that evaluation.networks named is conf/network's, not the run's
    listed = {**narrow, "evaluation": {"networks": ["convnet"]}}
    other = compare(replace(figure, config=listed), figure.accuracy, NETWORKS, 2.0, 2.0)
    assert other.difference is not None
