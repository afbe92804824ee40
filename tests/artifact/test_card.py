import torch

from ddist.artifact.card import card, describe, markdown_table
from ddist.artifact.dataset import DistilledDataset

ROW = {"protocol": "dc2021", "network": "convnet", "accuracy_mean": 0.5, "accuracy_std": 0.01,
       "accuracy_ci95": 0.005, "num_networks": 5}  # fmt: skip


def make(**meta):
    return DistilledDataset(
        images=torch.zeros(30, 1, 8, 8),
        labels=torch.arange(30),
        normalization={"kind": "none"},
        meta={
            "dataset": "digits",
            "method": "dc",
            "ipc": 1,
            "num_classes": 30,
            "class_names": [f"c{i}" for i in range(30)],
            "image_shape": (1, 8, 8),
            **meta,
        },
        config="",
    )


def test_says_what_it_is():
    text = card(make(seed=3, network={"name": "convnet", "width": 128}))
    assert text.startswith("# digits, distilled to 1 per class by dc\n")
    assert "30 synthetic images of 1×8×8 in 30 classes (c0, c1" in text
    assert "c19, …)" in text and "c20" not in text
    assert "7.9 kB with labels" in text  # 30 * (64 * 4 + 8)
    assert "| network | convnet, width=128 |" in text
    assert "| seed | 3 |" in text


def test_sections_that_do_not_apply_are_absent():
    text = card(make())
    assert "replay" not in text and "initial_weights" not in text and "How good" not in text


def test_a_network_that_took_no_part_is_not_named():
    text = card(make(uses_network=False, network="lenet", init="random", seed=3))
    assert "lenet" not in text and "init" not in text and "| seed | 3 |" in text
    assert "probabilities" not in text


def test_figures_carry_their_protocol():
    text = card(make(results={"evaluation": [ROW], "baselines": {"random": ROW}}))
    row = "| distilled images | convnet | dc2021 | 50.00 ± 1.00 (5) | 49.50 – 50.50 |"
    assert row in text
    assert "| random real images | convnet | dc2021 |" in text


def test_cells_cannot_break_the_table():
    assert describe({"name": "a|b", "x": {"y": "1\n2"}}) == "a\\|b, x=y=1 2"
    assert markdown_table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
