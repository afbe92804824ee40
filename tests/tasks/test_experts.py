"""task=experts as a command: killed, repeated and run by several processes at a time."""

import re
import signal
from pathlib import Path

import pytest

COMMON = (
    "task=experts", "method=dd", "trajectories.num_experts=3", "trajectories.batch_size=500",
    "paths.cache=cache",
)  # fmt: skip
EXPERTS = (*COMMON, "network=mlp", "network.widths=[8]")
# One after the other, for there are filters and larger batches than 32.
CONVNET = (*COMMON, "network=convnet", "network.width=4", "network.depth=1")

# Keeps a record of who wrote what, and waits before the first until everybody has some work.
WRITING = """
import os, time
from pathlib import Path
from ddist.experts.store import Store
write = Store.write
def together(self, expert, epoch, weights):
    Path(NAME).touch()
    until = time.monotonic() + 60
    while not all(map(os.path.exists, EVERYBODY)) and time.monotonic() < until:
        time.sleep(0.01)
    write(self, expert, epoch, weights)
    with open("record", "a") as file:
        file.write(f"{NAME} {expert} {epoch}\\n")
    if (NAME, expert, epoch) == DIES:
        os.kill(os.getpid(), 9)
Store.write = together
"""


def writing(name: str, *others: str, dies: tuple[int, int] | None = None) -> str:
    died = None if dies is None else (name, *dies)
    values = f"NAME, EVERYBODY, DIES = {name!r}, {(name, *others)!r}, {died!r}\n"
    return values + WRITING


def record(folder: Path) -> list[tuple[str, int, int]]:
    lines = (folder / "record").read_text().splitlines()
    return [(name, int(k), int(e)) for name, k, e in map(str.split, lines)]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        f"{path.parent.name}/{path.stem}": path.read_bytes()
        for path in folder.glob("experts/*/*/*.safetensors")
    }


@pytest.fixture(scope="module")
def alone(shared_ddist) -> dict[str, bytes]:
    """The files of three experts of two epochs, trained at a stretch."""
    done = shared_ddist(*CONVNET, "trajectories.epochs=2")
    assert (done.code, done.err) == (0, "")
    return contents(shared_ddist.folder / "cache")


def test_experts_are_made_ahead_and_found_again(ddist) -> None:
    done = ddist(*EXPERTS, "trajectories.epochs=2")
    assert (done.code, done.err) == (0, "")
    folder = re.search(r"cache/experts/[0-9a-f]{8}", done.out)
    assert folder is not None
    num_bytes = sum(map(len, contents(ddist.folder / "cache").values()))
    assert len(contents(ddist.folder / "cache")) == 9
    for expected in (
        f"Training 3 experts of 2 epochs on digits: 9 files are missing, {num_bytes / 1000:.1f} kB",
        "experts: 3/6 epochs · ",
        f"{num_bytes / 1000:.1f} kB of experts in 9 files: {folder[0]}",
    ):
        assert expected in done.out
    again = ddist(*EXPERTS, "trajectories.epochs=2", before="import ddist.experts.experts"
                  " as module; module.fit = None")  # fmt: skip
    assert (again.code, again.err) == (0, "")
    assert f"All 3 experts of 2 epochs on digits are there: {folder[0]}" in again.out
    (run, _) = sorted((ddist.folder / "outputs" / "experts").iterdir())
    assert "9 files are missing" in (run / "ddist.log").read_text()


def test_as_many_epochs_as_the_method_uses(ddist) -> None:
    windowed = ("method=mtt", "method.max_start_epoch=2", "method.expert_epochs=2")
    done = ddist(*EXPERTS, *windowed, "trajectories.num_experts=1")
    assert (done.code, done.err) == (0, "")
    assert "Training 1 experts of 3 epochs" in done.out
    done = ddist(*EXPERTS, "task.epochs=4", "trajectories.num_experts=1")
    assert "Training 1 experts of 4 epochs" in done.out


def test_killed_anywhere_it_ends_with_the_same_files(ddist, alone: dict[str, bytes]) -> None:
    for dies in ((0, 0), (1, 1), (2, 1)):
        killed = ddist(*CONVNET, "trajectories.epochs=2", before=writing("first", dies=dies))
        assert killed.code == -signal.SIGKILL
    done = ddist(*CONVNET, "trajectories.epochs=2", before=writing("last"))
    assert (done.code, done.err) == (0, "")
    written = [(k, epoch) for _, k, epoch in record(ddist.folder)]
    assert written == [(k, epoch) for k in range(3) for epoch in range(3)]
    assert contents(ddist.folder / "cache") == alone


def test_processes_share_the_work(ddist, alone: dict[str, bytes]) -> None:
    both = [
        ddist.start(*CONVNET, "trajectories.epochs=2", before=writing(*names))
        for names in (("first", "second"), ("second", "first"))
    ]
    for done in [wait() for wait in both]:
        assert (done.code, done.err) == (0, "")
    written = record(ddist.folder)
    assert sorted((k, e) for _, k, e in written) == [(k, e) for k in range(3) for e in range(3)]
    owners = {(name, k) for name, k, _ in written}
    assert len(owners) == 3 and {name for name, _ in owners} == {"first", "second"}
    assert contents(ddist.folder / "cache") == alone


def test_what_a_dead_process_leaves_is_done_by_the_other(ddist, alone: dict[str, bytes]) -> None:
    dies = ddist.start(
        *CONVNET, "trajectories.epochs=2", before=writing("dies", "lives", dies=(0, 1))
    )
    lives = ddist.start(
        *CONVNET, "trajectories.epochs=2", "trajectories.shard=1", before=writing("lives", "dies")
    )
    assert dies().code == -signal.SIGKILL
    done = lives()
    assert (done.code, done.err) == (0, "")
    assert ("dies", 0, 1) in record(ddist.folder) and ("lives", 0, 2) in record(ddist.folder)
    assert contents(ddist.folder / "cache") == alone


def test_a_sweep_over_shards(ddist, alone: dict[str, bytes]) -> None:
    done = ddist("-m", *CONVNET, "trajectories.epochs=2", "trajectories.shard=0,1")
    assert (done.code, done.err) == (0, "")
    assert "Training 3 experts" in done.out and "All 3 experts" in done.out
    assert contents(ddist.folder / "cache") == alone


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("network=convnet_bn", "choose network.norm=instance, or a network without it."),
        ("trajectories.dtype=half", "trajectories.dtype is one of float32, bfloat16, not 'half'."),
        (
            "trajectories.shard=a",
            "trajectories.shard is a whole number of at least 0 or null, not 'a'.",
        ),
        ("trajectories.precision=16", "precision is one of 32-true, bf16-mixed, not 16."),
        ("trajectories=steep", "Unknown trajectories 'steep': choose one of flat, plain, stored."),
        ("trajectories.rate=1", "Unknown option 'trajectories.rate'"),
        ("trajectories.lr=big", "lr is a finite number of at least 0, not 'big'."),
    ],
)
def test_a_mistake_is_one_sentence(ddist, arguments: str, expected: str) -> None:
    done = ddist(*COMMON, *arguments.split(), "trajectories.epochs=1")
    assert done.code == 1
    assert expected in done.err and done.err.count("\n") == 1, done.err


@pytest.mark.parametrize(("more", "width"), [((), 64), (("steps=1",), 128)])
def test_they_are_of_the_network_that_a_run_would_have(
    ddist, more: tuple[str, ...], width: int
) -> None:
    """One that nobody has named steps for has the usual budget, and a network that fits a CPU."""
    words = ("method=mtt", "dataset.size=32", "trainer.accelerator=cpu", "paths.cache=cache")
    few = ("trajectories.num_experts=1", "trajectories.subset=2", "method.max_start_epoch=1")
    done = ddist("task=experts", *words, *few, *more)
    assert done.code == 0 and f"network.width={width} " in done.out, done.err
