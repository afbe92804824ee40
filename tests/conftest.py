"""What tests of every part share: the real data, built from conf/dataset as a run builds it, and
``ddist`` as a command."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

# torch and ddist take seconds to import, which the process that hands out the tests to others need
# not wait for: whoever uses them here imports them.
if TYPE_CHECKING:
    from ddist.data import RealData
    from tests.living import LivingBytes

CONF = Path(__file__).parents[1] / "conf"

# A shell that starts the tests in the background has them ignore Ctrl-C, which some send.
signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:
    import torch

    torch.set_num_threads(1)  # the processes share the cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs the command as ``shell``, which `make test-fast` leaves out; skip the tests
    marked ``gpu`` where there is none."""
    import torch

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
def real_data(tmp_path: Path) -> "Callable[..., RealData]":
    """``real_data(name, seed=0, root=…, **options)``: conf/dataset/<name>.yaml with ``options``.

    Not yet loaded, never downloaded. ``source`` options are merged, other options replace. Nothing
    is held out, unless ``validation`` says so.
    """
    from omegaconf import OmegaConf

    from ddist.data import RealData
    from ddist.tasks.config import read_option
    from ddist.tasks.targets import make

    def build(name: str, *, seed: int = 0, root: Path = tmp_path, **options: Any) -> "RealData":
        config = read_option("dataset", name)
        batch_size = options.pop("batch_size", None)
        config = OmegaConf.merge(config, {"download": False, "validation": 0.0, **options})
        if "folder" in config:  # that of the source, by its short name
            folder = config.pop("folder")
            if OmegaConf.is_interpolation(config.source, "folder"):
                config.source.folder = folder
        data = make(config, seed=seed, root=root, cache=tmp_path / "cache")
        assert isinstance(data, RealData)
        return data.feeding(batch_size, None)

    return build


@pytest.fixture
def digits(real_data: "Callable[..., RealData]") -> "RealData":
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


# A grid of one: a set without step sizes of its own is not tuned at length.
TUNED = ("evaluation.step_size_grid=[0.03]", "evaluation.tuning_networks=1")
EVALUATED = ("evaluation.num_networks=2", "evaluation.epoch_grid=[1]", *TUNED)
QUICK = ("steps=3", *EVALUATED, "reference.coreset.select=null")


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


@pytest.fixture(scope="session")
def living_bytes() -> "type[LivingBytes]":
    """A context that counts the bytes of tensors."""
    from tests.living import LivingBytes

    return LivingBytes


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that stands still until the test says how many seconds pass."""
    now = 1000.0

    def later(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("time.monotonic", lambda: now)
    return later
