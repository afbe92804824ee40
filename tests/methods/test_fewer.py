"""synthetic.scarce=fewer: classes with fewer real images have fewer synthetic ones, in every method
and in all that comes after it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from ddist import DistilledDataset
from ddist.methods.matching import Matching
from tests.methods.every import METHODS, Run

pytestmark = pytest.mark.slow  # each composes, builds or trains

COUNTS = {"a": 9, "b": 2, "c": 5}  # training images
FEWER = [4, 2, 4]  # of ipc=4
LABELS = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]


@pytest.fixture(scope="module")
def tail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three digits, of which one is rare."""
    folder = tmp_path_factory.mktemp("tail")
    x, y = load_digits(return_X_y=True)
    for digit, (name, count) in enumerate(COUNTS.items()):
        images = x[y == digit][: count + 6].reshape(-1, 8, 8) * 15
        for number, image in enumerate(images):
            place = folder / ("train" if number < count else "test") / name
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.astype("uint8")).save(place / f"{number:02d}.png")
    return folder


@pytest.fixture
def make(make_every: Any, tail: Path) -> Callable[..., Any]:
    def make(name: str, *words: str) -> Any:
        dataset = ("dataset=imagefolder", f"dataset.source.folder={tail}", "dataset.size=8")
        return make_every(name, *dataset, "ipc=4", "synthetic.scarce=fewer", *words)

    return make


@pytest.mark.parametrize("name", [each for each in METHODS if each not in ("cafe", "dd")])
def test_each_method_learns_as_many_images_as_there_are(make: Any, name: str) -> None:
    run = Run(make(name), 0)
    before = run.method.tensors()["images"]
    assert all(torch.tensor(run.losses()).isfinite())
    found = run.method.tensors()
    labels = found["labels"] if found["labels"].ndim == 1 else found["labels"].argmax(1)
    # These store four images in each, as many as there are real ones, but one at least.
    expected = [0, 0, 1, 2] if name in ("idc", "ncfm", "idm") else LABELS
    assert labels.tolist() == expected
    assert before.shape == found["images"].shape == (len(expected), 3, 8, 8)


@pytest.mark.parametrize("name", ["dm", "dc", "ncfm", "idc"])
def test_matching_compares_each_class_with_its_own(make: Any, name: str) -> None:
    """The sum over classes, one by one, of what the method says of a class alone."""
    own = ["method.synthetic_per_class=null"] if name == "idc" else []
    own += ["synthetic=pixel", "synthetic.scarce=fewer"]
    run = Run(make(name, "augment=none", *own), 0)
    method = run.method
    assert isinstance(method, Matching)
    method._trainer = run.trainer  # type: ignore[assignment]
    indices = method.data.class_indices(2, torch.Generator().manual_seed(0))
    loss = method.outer_loss(indices)
    weights = {name: w[0] for name, w in method.networks_of_step().items()}
    images, _ = method.synthetic()

    def alone(c: int, x: Tensor) -> Tensor:
        x_real = method.data.images(indices[c : c + 1])
        return method.match(weights, x_real, x[None], torch.tensor([c]))

    expected = sum(alone(c, x) for c, x in enumerate(images.split(FEWER)))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    gradients = [torch.autograd.grad(each, method.synthetic.images)[0] for each in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_the_last_student_steps_lack_the_rare_classes(make: Any) -> None:
    method = Run(make("dd", "method.student_steps=2"), 0).method
    assert method.step_index.tolist() == [0] * 5 + [1] * 5
    assert method.tensors()["labels"].tolist() == [0, 0, 1, 2, 2] * 2
    method = Run(make("dd", "method.student_steps=4"), 0).method
    assert method.step_index.tolist() == [0] * 3 + [1] * 3 + [2] * 2 + [3] * 2
    assert method.tensors()["labels"].tolist() == [0, 1, 2, 0, 1, 2, 0, 2, 0, 2]


def test_what_compares_all_classes_together_refuses(make: Any) -> None:
    with pytest.raises(Exception, match="CAFE compares the images of all classes together"):
        make("cafe")


SHORT = (
    "reference.coreset.select=null",
    "dataset=imagefolder", "dataset.size=8", "network=mlp", "network.widths=[8]", "steps=2",
    "ipc=4", "evaluation=dc2021", "evaluation.num_networks=1", "evaluation.epochs=2",
    "dataset.validation=0", "compile=false", "synthetic.scarce=fewer", "hydra.run.dir=run",
)  # fmt: skip
CHOOSING = {
    "random": (), "average": (), "kmeans": (), "herding": ("method.embedding.epochs=1",),
    "kcenter": ("method.embedding.epochs=1",), "kmeans_embedding": ("method.embedding.epochs=1",),
    "optimized_random": ("method.num_candidates=2", "method.judge.tuning_networks=1"),
    "ddoq": ("generative=pca", "generative.components=8"),
    "d4m": ("generative=pca", "generative.components=8", "method.decode=medoid"),
    "rded": ("teacher.network=mlp", "teacher.epochs=1", "method.factor=1"),
}  # fmt: skip


def run(ddist: Any, tail: Path, *words: str) -> DistilledDataset:
    done = ddist(f"dataset.source.folder={tail}", "paths.cache=cache", *SHORT, *words)
    assert (done.code, done.err) == (0, ""), done.err
    return DistilledDataset.load(ddist.folder / "run" / "distilled")


@pytest.mark.parametrize("name", CHOOSING)
def test_what_is_chosen_is_as_many_as_there_are(ddist: Any, tail: Path, name: str) -> None:
    words = (f"method={name}", *CHOOSING[name])
    found = run(ddist, tail, *words)
    assert found.labels.sort().values.tolist() == LABELS
    if name not in ("average", "kmeans", "ddoq"):  # of these every image is another
        assert len(found.images.flatten(1).unique(dim=0)) == 10
    if name == "ddoq":
        assert found.weights is not None
        for c in range(3):
            assert float(found.weights[found.labels == c].mean()) == pytest.approx(1)


def test_a_set_of_soft_labels_is_evaluated_started_from_and_exported(ddist, tail: Path) -> None:
    """Labels do not say the classes, so the artifact has to."""
    words = (
        "method=dd",
        "synthetic.labels=soft",
        "synthetic.label_logit=0",
        "method.student_steps=2",
    )
    found = run(ddist, tail, *words)
    assert found.meta["images_per_class"] == FEWER and found.meta["ipc"] == 4
    card = (ddist.folder / "run" / "distilled" / "README.md").read_text()
    assert "Classes with fewer images, as there are fewer real ones: b 2." in card
    results = json.loads((ddist.folder / "run" / "results.json").read_text())
    assert results["baselines"]["random"]["num_networks"] == 1
    for format in ("npz", "png", "torch"):
        done = ddist("task=export", "artifact=run/distilled", f"format={format}",
                     f"hydra.run.dir={format}")  # fmt: skip
        assert (done.code, done.err) == (0, ""), done.err
    again = ddist("task=evaluate", "artifact=run/distilled",
                  "hydra.run.dir=again", "compile=false")  # fmt: skip
    assert (again.code, again.err) == (0, "")
    figures = json.loads((ddist.folder / "again" / "results.json").read_text())
    assert figures["evaluation"] == results["evaluation"]
    assert figures["baselines"] == results["baselines"]
    (ddist.folder / "run").rename(ddist.folder / "first")
    started = run(ddist, tail, *words, "synthetic.start=first", "method.lr.images=0",
                  "method.lr.labels=0")  # fmt: skip
    torch.testing.assert_close(started.images, found.images)
