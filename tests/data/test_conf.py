from collections.abc import Callable

import pytest

from ddist.data import RealData
from ddist.tasks.config import conf_dir, option_names, read_option


@pytest.mark.parametrize("name", option_names("dataset"))
def test_every_dataset_has_the_same_options_and_builds(
    name: str, real_data: Callable[..., RealData]
) -> None:
    """So that ``dataset.verify=false`` and the like are valid whichever dataset is chosen."""
    options = read_option("dataset", name).keys() - {"folder"}  # the source's, by its short name
    assert options == read_option("dataset", "digits").keys()
    assert (conf_dir() / "dataset" / f"{name}.yaml").read_text().startswith("# ")
    assert real_data(name).name == name
