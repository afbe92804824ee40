"""Images that are stored as something else, under the methods of each family and as artifacts."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ddist import DistilledDataset
from ddist.artifact.files import DATA, META
from ddist.synthetic import Coded
from tests.methods.every import Run
from tests.methods.test_learns import COMMON, SHORT

WORDS = {
    "frequency": ("synthetic.copies=3",), "lowrank": ("synthetic.copies=2",),
    "bases": ("synthetic.copies=3",), "field": ("synthetic.copies=2",),
    "mirrored": ("dataset.mirror=true",),
}  # fmt: skip
METHODS = ("dm", "dsa", "idc", "mtt", "tesla", "frepo", "dd")


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_family_of_methods_moves_the_code(method: str, name: str, make_every: Any) -> None:
    run = Run(make_every(method, f"synthetic={name}", *WORDS[name], "synthetic.factor=1"), 0)
    synthetic = run.method.synthetic
    assert isinstance(synthetic, Coded) and synthetic.examples_each > 1
    run.trainer.global_step = 0
    batch = run.method.data.train_dataloader().element(0)
    run.method.outer_loss(batch).backward()
    for code in synthetic.codes.values():
        if code.requires_grad:
            assert code.grad is not None and 0 < float(code.grad.abs().max()) < torch.inf


def test_averages_of_pixels_and_choices_of_images_are_refused(ddist: Any) -> None:
    for words, said in (
        (("method=ftd",), "method.ema=null, or synthetic=pixel"),
        (("method=herding",), "not 4 in the bytes of one: set synthetic=pixel"),
        (("method=dm", "synthetic.copies=65"), "choose a smaller synthetic.copies"),
        (("method=dm", "synthetic.mirror=true"), "dataset.mirror=false"),
    ):
        done = ddist("dataset=digits", "synthetic=frequency", "ipc=1", *words)
        assert done.code != 0 and said in done.err and "Traceback" not in done.err


@pytest.fixture(scope="module")
def pixels(shared_ddist: Any) -> tuple[Path, dict[str, Any]]:
    return distilled(shared_ddist, "pixel")


def distilled(ddist: Any, name: str, *words: str) -> tuple[Path, dict[str, Any]]:
    """The folder and the results of 150 steps of dm."""
    line = ["method=dm", *COMMON, *SHORT, "steps=150", "dataset.validation=0", "ipc=2",
            f"synthetic={name}", *words, f"hydra.run.dir={name}"]  # fmt: skip
    done = ddist(*line)
    assert (done.code, done.err) == (0, ""), done.out + done.err
    folder: Path = ddist.folder / name
    return folder, json.loads((folder / "results.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", WORDS)
def test_a_run_learns_and_its_artifact_is_plain_images_in_no_more_bytes(
    name: str, shared_ddist: Any, pixels: tuple[Path, dict[str, Any]]
) -> None:
    folder, results = distilled(shared_ddist, name, *WORDS[name])
    usual = pixels[1]
    own, random = results["evaluation"][0], results["baselines"]["random"]
    assert own["accuracy_mean"] > random["accuracy_mean"] + 0.02
    # The real images beside it are as many as the bytes hold, whatever they were distilled to.
    # (With dataset.mirror=true networks are trained on mirrored ones too.)
    apart = random["accuracy_mean"] - usual["baselines"]["random"]["accuracy_mean"]
    assert abs(apart) <= (0.05 if name == "mirrored" else 0)

    artifact = DistilledDataset.load(folder / "distilled")
    each = artifact.stored_each
    assert each > 1 and artifact.images.shape == (20 * each, 1, 8, 8)
    assert len(artifact.as_dataset()) == len(artifact.labels) == 20 * each
    stored = safetensors.torch.load_file(folder / "distilled" / DATA)
    own_bytes = sum(
        value.nbytes for key, value in stored.items() if not key.startswith("normalization.")
    )
    assert artifact.num_bytes == own_bytes == results["cost"]["artifact_bytes"]
    assert own_bytes <= usual["cost"]["artifact_bytes"]
    assert "images" not in stored

    again = DistilledDataset.load(artifact.save(folder / "again"))
    assert torch.equal(again.images, artifact.images) and torch.equal(again.labels, artifact.labels)
    assert json.loads((folder / "again" / META).read_text())["schema"] == 4


@pytest.mark.slow
def test_a_set_goes_on_from_a_coded_one(
    shared_ddist: Any, pixels: tuple[Path, dict[str, Any]]
) -> None:
    folder, _ = distilled(shared_ddist, "frequency", "synthetic.copies=3", "resume=false")
    first = DistilledDataset.load(folder / "distilled")
    words = (*COMMON, *SHORT, "method=dm", "dataset.validation=0", "steps=0", "ipc=2")
    for name, more in (("frequency", ("synthetic.copies=3",)), ("pixel", ("ipc=6",))):
        done = shared_ddist(*words, *more, f"synthetic={name}", "hydra.run.dir=on",
                            "synthetic.start=frequency", "resume=false")  # fmt: skip
        assert (done.code, done.err) == (0, ""), done.out + done.err
        on = DistilledDataset.load(shared_ddist.folder / "on" / "distilled")
        torch.testing.assert_close(on.images, first.images, rtol=1e-4, atol=1e-4)
        assert torch.equal(on.labels, first.labels)
