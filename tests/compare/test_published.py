"""The table of published figures, and how far one's own are from it."""

import re
from collections import Counter
from dataclasses import replace
from math import sqrt

import pytest

from ddist.compare.gather import Accuracy, read
from ddist.compare.published import KNOWN, compare, document, published_figures
from ddist.tasks.config import conf_dir
from ddist.tasks.results import published_full
from tests.usual import usual_option

NETWORKS = {"convnet": {"width": 128, "depth": 3}}


def options(group: str) -> set[str]:
    return {file.stem for file in (conf_dir() / group).glob("*.yaml")}


def test_every_figure_names_its_source_and_what_ddist_has() -> None:
    figures = published_figures()
    assert len(figures) > 250
    for each in figures:
        assert 0 < each.mean < 1 and (each.std is None or 0 <= each.std < 0.1), each
        assert each.known in KNOWN and each.paper and re.fullmatch(r"\d{4}\.\d{5}", each.arxiv)
        assert each.method in options("method") | {"full", "no_adaptation"}, each
        assert (each.method == "full") == (each.ipc == 0) == (each.protocol == "full")
        assert each.dataset in options("dataset"), each
        for network in each.networks:
            known = network == "none" or network.split()[0] in options("network")
            assert known or each.protocol == "krr", each
        groups = {name.split(".")[0] for name in each.settings}
        assert groups <= {"network", "synthetic", "init", "dataset"}


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
    wanted = (method, dataset, ipc, known)
    found = [e for e in published_figures() if (e.method, e.dataset, e.ipc, e.known) == wanted]
    assert len(found) == 1
    assert found[0].mean == pytest.approx(mean / 100)
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


def test_other_images_are_not_compared(write) -> None:
    (figure,) = read(write("a"), {})
    for dataset, said in (
        ({"size": 14}, "size 14, published 28"),
        ({"channels": 3}, "channels 3, published 1"),
        ({"subset": 500}, "500 images of a class, published all"),
    ):
        other = replace(figure, config={**figure.config, "dataset": dataset})
        found = compare(other, figure.accuracy, NETWORKS, 2.0, 2.0)
        assert (found.difference, found.note) == (None, f"not compared: {said}")
    own = replace(figure, config={**figure.config, "dataset": {"size": 28, "subset": None}})
    assert compare(own, figure.accuracy, NETWORKS, 2.0, 2.0).difference is not None


def test_images_stored_as_something_else_are_not_compared(write) -> None:
    (figure,) = read(write("a"), {})
    for synthetic, said in (
        ({"copies": 4, "mirror": False}, "synthetic.copies 4, published 1"),
        ({"copies": 1, "mirror": True}, "synthetic.mirror True, published False"),
    ):
        other = replace(figure, config={**figure.config, "synthetic": synthetic})
        found = compare(other, figure.accuracy, NETWORKS, 2.0, 2.0)
        assert (found.difference, found.note) == (None, f"not compared: {said}")


def test_the_images_of_every_dataset_with_a_figure_are_known() -> None:
    assert {each.dataset for each in published_figures()} <= document()["images"].keys()


FULL = [
    ("cifar10", "convnet", {}, 0.848, "published, Cazenavette et al. 2022"),
    ("cifar10", "alexcifarnet", {}, 0.80, "published, Wang et al. 2018"),
    ("mnist", "lenet", {}, 0.99, "published, Wang et al. 2018"),
    ("mnist", "convnet", {}, 0.996, "published, Zhao et al. 2021, from memory, not checked"),
    ("cifar10", "mlp", {}, None, ""),
    ("cifar10", "resnet18", {}, None, ""),
    ("cifar10", "convnet_bn", {}, None, ""),
    ("cifar10", "convnet", {"network": {"width": 64}}, None, ""),
    ("cifar10", "convnet", {"network": {"norm": "none"}}, None, ""),
    ("cifar10", "convnet", {"network": {"activation": "sigmoid"}}, None, ""),
    ("cifar10", "convnet", {"dataset": {"size": 16}}, None, ""),
    ("cifar10", "convnet", {"dataset": {"subset": 100}}, None, ""),
    ("tiny_imagenet", "convnet", {}, None, ""),
    ("tiny_imagenet", "convnet", {"network": {"depth": 4}}, 0.376,
     "published, Cazenavette et al. 2022"),
    ("digits", "convnet", {}, None, ""),
    ("cifar10", "convnet", {"objective": {"_target_": "ddist.objectives.Poison"},
     "method": {"objective": {}}}, None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("dataset", "network", "changes", "mean", "protocol"), FULL)
def test_what_is_published_of_all_images_stands_beside_its_own_network_only(
    dataset, network, changes, mean, protocol
) -> None:
    config = {
        **changes,
        "network": {**usual_option("network", network), **changes.get("network", {})},
        "dataset": {"size": None, "channels": None, "subset": None, **changes.get("dataset", {})},
    }
    found = published_full(config, {"dataset": dataset, "init": "random"}, [network])
    if mean is None:
        assert found == {}
    else:
        row = found["full"]
        assert (row["network"], row["accuracy_mean"]) == (network, pytest.approx(mean))
        assert row["protocol"] == protocol


def test_further_networks_have_rows_of_their_own() -> None:
    config = {"evaluation": {"networks": ["mlp", "convnet"]}, "network": {}, "dataset": {}}
    found = published_full(config, {"dataset": "cifar10", "init": "random"}, ["mlp", "convnet"])
    assert [(name, row["network"]) for name, row in found.items()] == [("full:convnet", "convnet")]


@pytest.mark.parametrize(
    ("recipe", "dataset", "expected"),
    [
        ("dm/cifar10", "cifar10", ["full:convnet"]),
        ("dm/tiny_imagenet", "tiny_imagenet", ["full:convnet"]),  # of four blocks
        (None, "cifar10", []),  # as wide as the machine was fast
    ],
)
def test_further_networks_follow_the_data(recipe, dataset, expected) -> None:
    config = {"evaluation": {"networks": ["mlp", "convnet"]}, "recipe": recipe}
    found = published_full(config, {"dataset": dataset, "init": "random"}, ["mlp", "convnet"])
    assert list(found) == expected


def test_no_setting_holds_a_published_figure() -> None:
    for file in conf_dir().rglob("*.yaml"):
        assert not re.search(r"(?m)^reference: *\{.*(full|source)", file.read_text()), file


@pytest.mark.parametrize(("name", "mean"), [("imagewoof", 0.314), ("imagenette", 0.581)])
def test_figures_of_a_folder_are_those_of_its_name_alone(write, name: str, mean: float) -> None:
    run = {"dataset": "imagefolder", "ipc": 10, "provenance.config.dataset": {"name": name}}
    (figure,) = read(write("a", run), {})
    found = compare(figure, Accuracy(0.5, 0.01, 5), NETWORKS, 2.0, 2.0)
    assert found.published is not None and found.published.mean == pytest.approx(mean)
    (other,) = read(write("b", run | {"provenance.config.dataset": {"name": "flowers"}}), {})
    assert compare(other, Accuracy(0.5, 0.01, 5), NETWORKS, 2.0, 2.0).published is None
