"""What a run says at its end follows its figures."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ddist.evaluation import Evaluator, Training
from ddist.tasks.advice import advice, worth
from tests.evaluation.test_training import OPTIONS


def row(mean: float, ci95: float | None = 0.01) -> dict[str, Any]:
    return {"accuracy_mean": mean, "accuracy_ci95": ci95}


@pytest.mark.parametrize(
    ("ours", "baselines", "said"),
    [
        (row(0.5), {"random": row(0.4)},
         "Distilling was worth it: 50.0 % beside 40.0 % of as many random real images."),
        (row(0.415), {"random": row(0.4)}, "No difference that the networks show: 41.5 %"),
        (row(0.415, None), {"random": row(0.4)}, "Distilling was worth it: 41.5 %"),
        (row(0.3), {"random": row(0.4)},
         "Distilling was not worth it: 30.0 % beside 40.0 % of as many random real images. Random "
         "real images do better here."),
        (row(0.5), {"random": row(0.4), "coreset": row(0.45)},
         "Distilling was worth it: 50.0 % beside 40.0 % of as many random real images and 45.0 % "
         "of chosen ones."),
        (row(0.5), {"random": row(0.4), "coreset": row(0.505)},
         "Distilling was worth it, and choosing nearly as good: 50.0 %"),
        (row(0.5), {"random": row(0.49), "coreset": row(0.47)}, "No difference"),
        (row(0.5), {"random": row(0.4), "nearest": row(0.1), "herding": row(0.6)},
         "Distilling was not worth it: 50.0 % beside 40.0 % of as many random real images and "
         "60.0 % of chosen ones. Chosen real images do better here."),
        (row(0.3), {"random": row(0.4), "coreset": row(0.35)},
         "Distilling was not worth it: 30.0 % beside 40.0 % of as many random real images and "
         "35.0 % of chosen ones. Random real images do better here."),
        (row(0.5), {"random": row(0.4), "random:mlp": row(0.9), "full": row(0.99), "raw": row(0.8)},
         "Distilling was worth it"),
    ],
)  # fmt: skip
def test_a_set_is_compared_with_the_best_of_as_many_real_images(
    ours: dict[str, Any], baselines: dict[str, Any], said: str
) -> None:
    assert worth(ours, baselines).startswith(said)


@pytest.mark.parametrize("labels", ["own", "teacher"])
def test_it_is_said_where_the_accuracy_needs_a_teacher(labels: str, tmp_path: Path) -> None:
    protocol = Training(**OPTIONS | {"labels": labels}, teacher=lambda x, _: x)
    lines = advice(
        {"evaluation": [row(0.5)], "baselines": {}},
        cast(Evaluator, SimpleNamespace(protocol=protocol)),
        10,
        tmp_path,
    )
    said = "50.0 % where a teacher labels each batch" if labels == "teacher" else "50.0 %)"
    assert f"(expect {said}" in lines[0]
