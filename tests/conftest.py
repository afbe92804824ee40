"""What tests of every part share: the real data, built from conf/dataset as a run builds it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ddist.data import RealData

CONF = Path(__file__).parents[1] / "conf"


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
        config = OmegaConf.load(CONF / "dataset" / f"{name}.yaml")
        config.pop("defaults")
        batch_size = options.pop("batch_size", None)
        config = OmegaConf.merge(config, {"download": False, **options})
        data = instantiate(config)(
            seed=seed, root=root, cache=tmp_path / "cache", batch_size=batch_size
        )
        assert isinstance(data, RealData)
        return data

    return build


@pytest.fixture
def digits(real_data: Callable[..., RealData]) -> RealData:
    """The bundled digits, loaded: 1352 training images [1, 8, 8] of 10 classes."""
    return real_data("digits").load()
