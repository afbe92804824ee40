import copy

import pytest
from rich.console import Console

from ddist.artifact.figures import accuracy_rows
from ddist.errors import DdistError
from ddist.formatting import duration, size
from ddist.report.table import results_table

ROW = {
    "protocol": "replay",
    "network": "lenet",
    "accuracy_mean": 0.9376,
    "accuracy_std": 0.004,
    "accuracy_ci95": 0.0018,
    "num_networks": 20,
}
RESULTS = {
    "schema": 1,
    "method": "dd",
    "dataset": "mnist",
    "ipc": 10,
    "evaluation": [ROW],
    "baselines": {
        "random": {**ROW, "accuracy_mean": 0.686, "accuracy_std": 0.098, "accuracy_ci95": 0.05},
        "kmeans": {**ROW, "accuracy_mean": 0.764},
    },
    "cost": {
        "distill_seconds": 200.2,
        "evaluate_seconds": 8.16,
        "peak_memory_bytes": None,
        "steps_per_second": 12.345,
        "artifact_bytes": 313_600,
    },
}


def lines(results):
    console = Console(width=160, file=open("/dev/null", "w"), record=True)  # noqa: SIM115
    console.print(results_table(results))
    console.file.close()
    return [" ".join(line.replace("│", " ").split()) for line in console.export_text().splitlines()]


def test_one_protocol():
    text = lines(RESULTS)
    assert "distilled images lenet 93.76 ± 0.40 (20) 93.58 – 93.94" in text
    assert "random real images lenet 68.60 ± 9.80 (20) 63.60 – 73.60" in text
    assert any(line.startswith("k-means centroids lenet 76.40") for line in text)
    for row in ("distilling 3 min 20 s", "evaluating 8.2 s", "outer steps 12.3 / s",
                "distilled data 313.6 kB"):  # fmt: skip
        assert row in text
    assert not any("memory" in line for line in text)  # unknown, so not shown
    assert text.index("distilling 3 min 20 s") > text.index(next(x for x in text if "k-means" in x))


def test_two_protocols_never_share_a_column():
    results = copy.deepcopy(RESULTS)
    results["evaluation"].append({**ROW, "protocol": "dc2021", "accuracy_mean": 0.5})
    table = results_table(results)
    headers = [str(column.header) for column in table.columns]
    assert headers[2::2] == ["replay:\naccuracy % (networks)", "dc2021:\naccuracy % (networks)"]
    replay, dc2021 = (list(table.columns[i].cells) for i in (2, 4))
    for a, b in zip(replay[:4], dc2021[:4], strict=True):
        assert bool(a) != bool(b)
    assert [bool(cell) for cell in dc2021[:4]] == [False, True, False, False]


def test_what_a_paper_says_of_all_images_is_no_row_and_no_column():
    full = {**ROW, "protocol": "published, Zhao et al. 2021", "accuracy_mean": 0.996}
    other = {**full, "network": "convnet", "accuracy_mean": 0.997}
    both = {"full": full, "full:convnet": other}
    results = {**RESULTS, "baselines": {**RESULTS["baselines"], **both}}
    assert len(results_table(results).columns) == len(results_table(RESULTS).columns)
    text = lines(results)
    assert text[-2:] == [
        "all training images, lenet: 99.6 % (published, Zhao et al. 2021)",
        "all training images, convnet: 99.7 % (published, Zhao et al. 2021)",
    ]


def test_several_networks_each_with_its_own_baseline():
    alexnet = {**ROW, "network": "alexnet", "accuracy_mean": 0.5}
    results = {**RESULTS, "evaluation": [ROW, alexnet], "cost": {}}
    results["baselines"] = {"random": ROW, "random:alexnet": alexnet}
    names = [(name, row["network"]) for name, row in accuracy_rows(results)]
    distilled, random = "distilled images", "random real images"
    assert names == [(distilled, "lenet"), (random, "lenet"),
                     (distilled, "alexnet"), (random, "alexnet")]  # fmt: skip
    assert "random real images alexnet 50.00 ± 0.40 (20) 49.82 – 50.18" in lines(results)
    styles = [row.style for row in results_table(results).rows]
    assert styles == ["bold", None, "bold", None]


@pytest.mark.parametrize("spread", [{"num_networks": 1, "accuracy_std": 0.0},
                                    {"num_networks": 1, "accuracy_std": None}])  # fmt: skip
def test_one_network_has_no_spread(spread):
    results = {**RESULTS, "evaluation": [{**ROW, **spread}], "baselines": {}, "cost": {}}
    assert "distilled images lenet 93.76 (1)" in lines(results)


def test_an_interval_stays_within_0_and_100():
    row = {**ROW, "accuracy_mean": 0.99, "accuracy_ci95": 0.05}
    assert any("94.00 – 100.00" in line for line in lines({**RESULTS, "evaluation": [row]}))


def test_no_evaluation_says_what_to_do():
    with pytest.raises(DdistError, match="task=evaluate"):
        results_table({**RESULTS, "evaluation": []})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3599.4, "59 min 59 s"),
     (3599.6, "1 h 00 min"), (7500, "2 h 05 min"), (360_000, "100 h 00 min")],
)  # fmt: skip
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (3.2e9, "3.2 GB"),
     (5e12, "5000.0 GB")],
)  # fmt: skip
def test_size(num_bytes, text):
    assert size(num_bytes) == text
