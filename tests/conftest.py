"""What tests of every part share: the real data, built from conf/dataset as a run builds it, and
``ddist`` as a command."""

import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
from omegaconf import OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ddist.data import RealData
from ddist.tasks.config import read_option
from ddist.tasks.targets import make

CONF = Path(__file__).parents[1] / "conf"

# A shell that starts the tests in the background has them ignore Ctrl-C, which some send.
signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # the processes share the cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs the command as ``shell``, which `make test-fast` leaves out; skip the tests
    marked ``gpu`` where there is none."""
    for item in items:
        if "fork_server" in getattr(item, "fixturenames", ()):
            item.add_marker("shell")
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the real datasets, in torchvision's layout."""
    folder = os.environ.get("DDIST_DATA")
    if not folder:
        pytest.skip("real data: set DDIST_DATA to a folder with MNIST, CIFAR-10 and USPS")
    return Path(folder)


@pytest.fixture
def real_data(tmp_path: Path) -> Callable[..., RealData]:
    """``real_data(name, seed=0, root=…, **options)``: conf/dataset/<name>.yaml with ``options``.

    Not yet loaded, never downloaded. ``source`` options are merged, other options replace.
    """

    def build(name: str, *, seed: int = 0, root: Path = tmp_path, **options: Any) -> RealData:
        config = read_option("dataset", name)
        batch_size = options.pop("batch_size", None)
        config = OmegaConf.merge(config, {"download": False, **options})
        data = make(config, seed=seed, root=root, cache=tmp_path / "cache")
        assert isinstance(data, RealData)
        return data.feeding(batch_size, None)

    return build


@pytest.fixture
def digits(real_data: Callable[..., RealData]) -> RealData:
    """The bundled digits, loaded: 1352 training images [1, 8, 8] of 10 classes."""
    return real_data("digits").load()


@dataclass(frozen=True)
class Finished:
    """A command that has ended; a negative ``code`` is the signal that killed it."""

    code: int
    out: str
    err: str


class Command:
    """``ddist(*arguments)`` runs the command line ``ddist ...`` in ``folder``, in a process of its
    own: one CPU thread, no ``DDIST_`` or ``WANDB_`` variables but those in ``env``. ``before`` is
    Python code that is run first, to make something fail."""

    def __init__(self, server: subprocess.Popen[str], folder: Path) -> None:
        self.server, self.folder = server, folder

    def __call__(self, *arguments: str, before: str = "", **env: str) -> Finished:
        return self.start(*arguments, before=before, **env)()

    def start(self, *arguments: str, before: str = "", **env: str) -> Callable[[], Finished]:
        """The same without waiting; what it returns waits."""
        out, err = (self.folder / f".{uuid4().hex}.{name}" for name in ("out", "err"))
        script = str(Path(sys.executable).with_name("ddist"))
        pid = self._ask(
            argv=[script, *arguments],
            cwd=str(self.folder),
            env=env,
            before=before,
            out=str(out),
            err=str(err),
        )
        return lambda: Finished(self._ask(wait=pid), out.read_text(), err.read_text())

    def distil(self, *arguments: str, folder: str = "run", **options: Any) -> Path:
        """The folder of a short run on the digits, which has to succeed without complaints."""
        done = self(*QUICK, f"hydra.run.dir={folder}", *arguments, **options)
        assert (done.code, done.err) == (0, ""), done.out + done.err
        return self.folder / folder

    def _ask(self, **request: Any) -> int:
        assert self.server.stdin is not None and self.server.stdout is not None
        print(json.dumps(request), file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline())


QUICK = ("steps=3", "evaluation.num_networks=2", "evaluation.epoch_grid=[1]")


@pytest.fixture(scope="session")
def fork_server() -> Iterator[subprocess.Popen[str]]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DDIST_", "WANDB_"))}
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("fork_server.py")],
        env=env | {"OMP_NUM_THREADS": "1", "DDIST_DATA": os.environ.get("DDIST_DATA", "")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        yield server
        assert server.stdin is not None
        server.stdin.close()


@pytest.fixture
def ddist(fork_server: subprocess.Popen[str], tmp_path: Path) -> Command:
    """``ddist`` as a command, run in ``tmp_path``."""
    return Command(fork_server, tmp_path)


@pytest.fixture(scope="module")
def shared_ddist(
    fork_server: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory
) -> Command:
    """``ddist`` in a folder that the tests of a module share, for runs that several look at."""
    return Command(fork_server, tmp_path_factory.mktemp("shared"))


class LivingBytes(TorchDispatchMode):
    """Bytes of the storages that were made within the block and are still alive, and their peak.

    Unlike a process's resident size it does not depend on the allocator, on what ran before or on
    the machine. It sees the operators of the backward pass too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = {each._cdata for each in storages((args, kwargs))}
        for storage in storages(out):
            if storage._cdata not in given | self._known:  # a view makes nothing
                self._note(storage)
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def storages(tree: object) -> list[torch.UntypedStorage]:
    """The storages of all tensors in nested arguments or results."""
    return [each.untyped_storage() for each in tree_leaves(tree) if isinstance(each, torch.Tensor)]


@pytest.fixture(scope="session")
def living_bytes() -> type[LivingBytes]:
    """A context that counts the bytes of tensors."""
    return LivingBytes
