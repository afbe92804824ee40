"""What YAML names, called with its settings."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ddist.errors import DdistError
from ddist.tasks.targets import find_target, make, maker


def seen(*values: Any, **settings: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return values, settings


def test_settings_are_plain_and_what_is_nested_is_made() -> None:
    inner = {"_target_": f"{__name__}.seen", "sizes": [1, 2]}
    config = OmegaConf.create(
        {"_target_": f"{__name__}.seen", "a": "${b}", "b": {"c": [3]}, "inner": inner,
         "later": {**inner, "_partial_": True}}
    )  # fmt: skip
    values, settings = make(config, 7, d=8)
    assert values == (7,) and settings["d"] == 8
    assert type(settings["a"]) is dict and settings["a"] == {"c": [3]}
    assert (
        settings["inner"] == ((), {"sizes": [1, 2]}) and type(settings["inner"][1]["sizes"]) is list
    )
    assert isinstance(settings["later"], partial)
    assert maker(config).keywords.keys() == {"a", "b", "inner", "later"}


def test_tables_are_no_settings() -> None:
    inner = {"_target_": f"{__name__}.seen", "_by_dataset_": [{"lr": 1}], "lr": 1}
    config = {"_target_": f"{__name__}.seen", "_by_dataset_": [{"lr": 1}], "inner": inner}
    assert make(config) == ((), {"inner": ((), {"lr": 1})})


IMPORTS = "import os\n\nimport no_such_library\n"


@pytest.mark.parametrize(
    ("files", "target", "place", "said"),
    [
        ({"own_a": "\nclass Net(:\n"}, "own_a.Net", "own_a.py, line 2",
         "SyntaxError: invalid syntax"),
        ({"own_b": "def f():\nx = 1\n"}, "own_b.f", "own_b.py, line 2",
         "IndentationError: expected an indented block after function definition on line 1"),
        ({"own_c": IMPORTS}, "own_c.Net", "own_c.py, line 3",
         "ModuleNotFoundError: No module named 'no_such_library'"),
        ({"own_d": "from torch.nn import Linnear\n"}, "own_d.Net", "own_d.py, line 1",
         r"ImportError: cannot import name 'Linnear' from 'torch.nn' .*"),
        ({"own_e": "import own_f\n", "own_f": "x = (\n"}, "own_e.Net", "own_f.py, line 1",
         r"SyntaxError: '\(' was never closed"),
        ({"own_g/__init__": "", "own_g/nets": IMPORTS}, "own_g.nets.Net", "own_g/nets.py, line 3",
         "ModuleNotFoundError: No module named 'no_such_library'"),
        ({"own_h": "def f():\n    return 1 / 0\nf()\n"}, "own_h.Net", "own_h.py, line 2, in f",
         "ZeroDivisionError: division by zero"),
        ({"own_i": "import sys\nsys.exit()\n"}, "own_i.Net", "own_i.py, line 2",
         r"SystemExit(: 0)?"),
    ],
)  # fmt: skip
def test_a_module_that_cannot_be_imported_names_its_file_line_and_error(
    files: dict[str, str],
    target: str,
    place: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text)
    expected = rf"^network\._target_={target} cannot be imported: {tmp_path}/{place}: {said}\.$"
    with pytest.raises(DdistError, match=expected):
        find_target(target, "network")


def test_a_name_that_is_not_there_is_told_from_a_module_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_names.py").write_text("class MyNet: ...\n")
    with pytest.raises(
        DdistError, match=r"no 'MyNett' in .*/own_names.py; did you mean own_names.MyNet\?$"
    ):
        find_target("own_names.MyNett", "network")
    with pytest.raises(DdistError, match=r"there is no 'Other' in .*/own_names.py\.$"):
        find_target("own_names.Other", "network")
    with pytest.raises(DdistError, match=r"PYTHONPATH \(No module named 'own_nothing'\)\.$"):
        find_target("own_nothing.Net", "network")
