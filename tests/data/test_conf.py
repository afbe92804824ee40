from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ddist.data import RealData

FILES = sorted((Path(__file__).parents[2] / "conf" / "dataset").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_dataset_has_the_same_options_and_builds(
    file: Path, real_data: Callable[..., RealData]
) -> None:
    """So that ``dataset.verify=false`` and the like are valid whichever dataset is chosen."""
    options, digits = (
        yaml.safe_load(path.read_text()) for path in (file, file.with_stem("digits"))
    )
    assert options.keys() == digits.keys()
    assert file.read_text().startswith("# ")
    assert real_data(file.stem).name == file.stem
