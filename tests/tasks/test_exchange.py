"""task=export and task=import as commands: out and in again with the same figures, and files as the
field's own code writes them, whole and broken."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from ddist.artifact.dataset import DistilledDataset
from ddist.networks import ConvNet

PROTOCOL = ("evaluation=dc2021", "evaluation.epochs=2", "evaluation.num_networks=2",
            "network=mlp", "task.baseline=false")  # fmt: skip


@pytest.fixture(scope="module")
def run(shared_ddist) -> Path:
    """Real digits, whose pixels 8 bits hold exactly."""
    done = shared_ddist("method=random", "ipc=2", "hydra.run.dir=run", *PROTOCOL)
    assert (done.code, done.err) == (0, ""), done.err
    return shared_ddist.folder / "run"


def figures(ddist, artifact: object) -> dict:
    done = ddist("task=evaluate", f"artifact={artifact}", "hydra.run.dir=evaluated", *PROTOCOL)
    assert (done.code, done.err) == (0, ""), done.err
    return json.loads((ddist.folder / "evaluated" / "results.json").read_text())["evaluation"]


def imported(ddist, *arguments: str) -> Path:
    done = ddist("task=import", "hydra.run.dir=in", *arguments)
    assert (done.code, done.err) == (0, ""), done.err
    return ddist.folder / "in" / "distilled"


@pytest.mark.parametrize("format", ["torch", "npz", "png", "hub"])
def test_out_and_in_again_gives_the_same_figures(ddist, run: Path, format: str) -> None:
    done = ddist(
        "task=export", f"artifact={run}/distilled", f"format={format}", "hydra.run.dir=out"
    )
    assert (done.code, done.err) == (0, ""), done.err
    folder = ddist.folder / "out" / format
    assert {"README.md", "grid.png"} <= {path.name for path in folder.iterdir()}
    if format in ("torch", "npz"):
        again = imported(ddist, f"format={format}", f"path={folder}")
    elif format == "png":
        again = imported(ddist, "format=folder", f"path={folder}", "dataset=digits")
    else:
        again = folder / "distilled"
    first, second = (DistilledDataset.load(path) for path in (run / "distilled", again))
    torch.testing.assert_close(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    expected = figures(ddist, run / "distilled")
    for one, other in zip(expected, figures(ddist, again), strict=True):
        assert one["accuracy_mean"] == pytest.approx(other["accuracy_mean"], abs=0.005)
        if format != "png":  # whose images come back but for rounding
            assert one == other


def test_soft_labels_and_weights_go_along(ddist, tmp_path: Path, run: Path) -> None:
    had = DistilledDataset.load(run / "distilled")
    soft = torch.rand(len(had.images), 10).softmax(1)
    weights = torch.rand(len(had.images))
    had = DistilledDataset(**{**vars(had), "labels": soft, "weights": weights})
    had.save(tmp_path / "soft")
    ddist("task=export", f"artifact={tmp_path}/soft", "format=hub", "hydra.run.dir=out")
    hub = ddist.folder / "out" / "hub"
    again = DistilledDataset.load(imported(ddist, "format=folder", f"path={hub}", "dataset=digits"))
    assert again.weights is not None and again.labels.is_floating_point()
    torch.testing.assert_close(again.labels, soft)
    torch.testing.assert_close(again.weights, weights)
    card = (hub / "README.md").read_text()
    assert card.startswith("---\n") and "soft_label" in card and "class_label" in card


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """What DC's, MTT's and IDC's code save, of random images like the digits."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(10, 1, 8, 8, generator=generator), torch.arange(10)
    accuracies = {"ConvNet": [np.float64(0.5), 0.25]}  # numpy's numbers, as DC's code has them
    folder = tmp_path / "files"
    folder.mkdir()
    dc = {"data": [[x, y], [x + 1, y]], "accs_all_exps": accuracies}
    torch.save(dc, folder / "res_DM_MNIST_ConvNet_1ipc.pt")
    torch.save(x.clone().requires_grad_(), folder / "images_best.pt")
    torch.save(y, folder / "labels_best.pt")
    torch.save(torch.tensor(0.02), folder / "lr_best.pt")
    torch.save([torch.rand(10, 1, 8, 8, generator=generator), y], folder / "data.pt")
    return folder


def test_files_of_the_fields_own_code(ddist, files: Path) -> None:
    x = torch.load(files / "images_best.pt", weights_only=True).detach()
    space = ("dataset=digits", "normalization=mean_std")
    dc = f"path={files}/res_DM_MNIST_ConvNet_1ipc.pt"
    found = DistilledDataset.load(imported(ddist, "format=dc", dc, "index=1", *space))
    assert torch.equal(found.images, x + 1)
    assert (found.meta["method"], found.meta["ipc"]) == ("dm", 1)
    again = imported(ddist, "format=mtt", f"path={files}", *space)
    found = DistilledDataset.load(again)
    assert torch.equal(found.images, x) and found.step_sizes is not None
    assert found.step_sizes.item() == pytest.approx(0.02)
    assert found.meta["protocol"] == "mtt"
    assert figures(ddist, again)[0]["protocol"] == "dc2021"
    again = imported(ddist, "format=idc", f"path={files}", "dataset=digits", "factor=2")
    found = DistilledDataset.load(again)
    stored = torch.load(files / "data.pt", weights_only=True)[0]
    torch.testing.assert_close(found.to_pixels(), stored, atol=1e-5, rtol=0)
    assert len(found.examples()[0]) == 40  # 2x2 in each


def test_the_first_papers_results_are_replayed(ddist, tmp_path: Path) -> None:
    x = torch.randn(2, 10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y, sizes = torch.arange(10), torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    steps = [(x[s], y, sizes[e, s]) for e in range(2) for s in range(2)]
    torch.save(steps, tmp_path / "results.pth")
    again = imported(ddist, "format=dd", f"path={tmp_path}/results.pth", "dataset=digits", "ipc=2")
    found = DistilledDataset.load(again)
    replayed = list(found.replay())
    assert len(replayed) == 4 and found.meta["ipc"] == 2
    for (images, labels, size), (theirs, classes, rate) in zip(replayed, steps, strict=True):
        assert torch.equal(images, theirs) and torch.equal(labels, classes) and size == rate
    assert found.meta["protocol"] == "replay" and found.normalization["kind"] == "mean_std"


def test_parts_and_labels_of_other_files(ddist, files: Path, tmp_path: Path) -> None:
    x, y = torch.load(files / "data.pt", weights_only=True)
    for k, rows in enumerate((slice(0, 4), slice(4, 10))):
        torch.save(x[rows], tmp_path / f"a{k}.pt")
    np.save(tmp_path / "y.npy", y.numpy())
    words = (f"path=[{tmp_path}/a0.pt,{tmp_path}/a1.pt]", f"labels={tmp_path}/y.npy")
    assert "in which space" in refused(ddist, "format=tensors", *words)
    again = imported(ddist, "format=tensors", *words, "dataset=digits", "normalization=none")
    found = DistilledDataset.load(again)
    torch.testing.assert_close(found.to_pixels(), x, atol=1e-5, rtol=0)


def test_replay_buffers_of_others_serve_mtt(ddist, tmp_path: Path) -> None:
    network = ConvNet(10, (1, 8, 8), 2, 4, "instance", "avg", "relu")
    one = [[p + epoch for p in network.parameters()] for epoch in range(4)]
    torch.save([one, one], tmp_path / "replay_buffer_0.pt")
    small = ("network=convnet", "network.depth=2", "network.width=4", "dataset=digits")
    done = ddist("task=import", "format=experts", f"path={tmp_path}", "hydra.run.dir=in", *small)
    assert (done.code, done.err) == (0, ""), done.err
    assert "2 experts of 3 epochs: ddist method=mtt dataset=digits" in done.out
    use = ("method=mtt", "trajectories=stored", f"trajectories.folder={ddist.folder}/in/experts",
           "method.expert_epochs=1", "ipc=1", "steps=2", "method.student_steps=2", *PROTOCOL[:3],
           "task.baseline=false", "method.max_start_epoch=2", "dataset.normalize=mean_std",
           *small)  # fmt: skip
    done = ddist(*use, "method.step_size=0.01", "hydra.run.dir=out")
    assert done.code == 0, done.err
    assert not (tmp_path / "cache" / "experts").exists()
    done = ddist(*use, "network.width=8", "hydra.run.dir=other")
    assert done.code == 1 and "are of another network" in done.err


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


X, Y = torch.zeros(10, 1, 8, 8), torch.arange(10)
BROKEN = [
    ("code in it", {"data": [[X, Hostile()]]}, "holds more than tensors (posix.mkdir"),
    ("labels beyond", {"data": [[X, Y + 5]]}, "has labels from 5 to 14, and those of digits are 0"),
    ("another size", {"data": [[X[..., :7], Y]]}, "has images (1, 8, 7) and digits (1, 8, 8)"),
    ("no images", {"data": [[X[:0], Y[:0]]]}, "images are floating-point [N, C, H, W], and these"),
    ("flat", {"data": [[X.flatten(1), Y]]}, "images are floating-point [N, C, H, W], and these"),
    ("too few labels", {"data": [[X, Y[:9]]]}, "10 images need as many labels [N] or [N, K], and"),
    ("soft of others", {"data": [[X, X.new_ones(10, 3)]]}, "has soft labels of 3 classes and"),
    ("halves", {"data": [[X, Y / 2]]}, "labels [N] are whole numbers, and these are not."),
    ("other keys", {"images": X}, "a dict with a list of [images, labels] under 'data', not"),
    ("a tensor", X, "under 'data', not a tensor [10, 1, 8, 8]."),
    ("a string", {"data": [[X, "labels"]]}, "[images, labels], two tensors, not a list of 2."),
    ("not numbers", {"data": [[X * float("nan"), Y]]}, "not finite numbers"),
]  # fmt: skip


def refused(ddist, *arguments: str) -> str:
    done = ddist("task=import", "dataset=digits", "hydra.run.dir=in", *arguments)
    assert done.code == 1 and "Traceback" not in done.out + done.err
    assert done.err.startswith("ddist: ") and done.err.count("\n") == 1, done.err
    assert not (ddist.folder / "in" / "distilled").exists()
    assert not (ddist.folder / "pwned").exists()
    return done.err


@pytest.mark.parametrize(("content", "said"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_a_broken_file_is_one_sentence(ddist, tmp_path: Path, content, said: str) -> None:
    torch.save(content, tmp_path / "res.pt")
    space = "normalization=mean_std"
    assert said in refused(ddist, "format=dc", f"path={tmp_path}/res.pt", space)


def test_files_that_are_none(ddist, files: Path, tmp_path: Path) -> None:
    dc, space = ("format=dc", "normalization=mean_std")
    whole = (files / "res_DM_MNIST_ConvNet_1ipc.pt").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"images", pickle.dumps(Hostile())):
        (tmp_path / "cut.pt").write_bytes(content)
        assert "cut.pt" in refused(ddist, dc, space, f"path={tmp_path}/cut.pt")
    (files / "labels_best.pt").unlink()
    assert "There is no file" in refused(ddist, "format=mtt", space, f"path={files}")
    for name in ("torch", "npz"):
        assert "cut.pt is damaged" in refused(ddist, f"format={name}", f"path={tmp_path}/cut.pt")


def test_what_the_file_does_not_say_is_asked_for(ddist, files: Path) -> None:
    path = f"path={files}/res_DM_MNIST_ConvNet_1ipc.pt"
    assert "normalization=mean_std (of the dataset" in refused(ddist, "format=dc", path)
    said = refused(ddist, "format=dc", path, "normalization=none")
    assert "which are no pixels in [0, 1]" in said
    assert "index is from 0 to 1, not 2" in refused(
        ddist, "format=dc", path, "normalization=mean_std", "index=2"
    )
    assert "factor=2 (2x2, IDC)" in refused(ddist, "format=idc", f"path={files}")
    assert (
        "task=import needs format=dc|mtt|idc|dd|tensors|folder|torch|npz|experts, not None."
        in refused(ddist)
    )
    assert "path=PATH" in refused(ddist, "format=dc")
    done = ddist("task=import", "format=idc", f"path={files}", "factor=2")
    assert "dataset=cifar10" in done.err


def test_class_folders_are_never_guessed(ddist, run: Path, tmp_path: Path) -> None:
    ddist("task=export", f"artifact={run}/distilled", "format=png", "hydra.run.dir=out")
    train = ddist.folder / "out" / "png" / "train"
    (train / "00003_3").rename(train / "three")
    said = refused(ddist, "format=folder", f"path={train.parent}")
    assert "the folder 'three', which is neither a class of the dataset (0, 1, 2, 3, 4, …)" in said
