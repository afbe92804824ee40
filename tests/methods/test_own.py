"""A method of somebody's own, outside this repository."""

import textwrap

import pytest
from omegaconf import OmegaConf

from ddist.cli.validate import check_needed
from ddist.errors import DdistError
from ddist.settings.groups import KEYS

CODE = """
    from ddist.methods import DM


    class Mine(DM):
        def match(self, weights, x_real, x_syn, classes):
            return super().match(weights, x_real, x_syn, classes).sqrt()
"""
FILES = {
    "mine.py": CODE,
    "conf/method/mine.yaml": """
        # @package _global_
        # DM by distances that are not squared.
        defaults:
          - dm
          - _self_
          - override /evaluation: dc2021
        steps: 2
        method: {_target_: mine.Mine, lr: {images: 0.1}}
    """,
    "conf/method/earlier.yaml": """
        defaults:
          - override /evaluation@_global_.evaluation: dc2021
          - override /network@_global_.network: convnet
        _target_: mine.Mine
        _partial_: true
        num_networks: 1
        classes_at_once: null
        augment: ${augment}
        real_per_class: 4
        lr: {images: 0.1}
        optimizer: {_target_: torch.optim.SGD, _partial_: true}
    """,
}
QUICK = (
    "--config-dir=conf", "network.depth=2", "network.width=8", "method.real_per_class=4",
    "evaluation.num_networks=1", "evaluation.epochs=1", "task.baseline=false",
)  # fmt: skip


def test_two_files_are_a_method(ddist) -> None:
    for name, text in FILES.items():
        file = ddist.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip())
    found = f"import sys; sys.path.insert(0, {str(ddist.folder)!r})"
    for name in ("mine", "earlier"):
        done = ddist(*QUICK, f"method={name}", "steps=2", f"hydra.run.dir={name}", before=found)
        assert (done.code, done.err) == (0, ""), done.out
    config = OmegaConf.load(ddist.folder / "mine" / ".hydra" / "config.yaml")
    assert (config.steps, config.synthetic.start, config.init.scheme) == (2, "real", "default")


BROKEN = {
    "        return super().match(weights, x_real, x_syn, classes).expand(3)":
        "The outer loss of Mine is no scalar tensor, but [3]",
    "        return self.none":
        "mine.py, line 6, in match: AttributeError: 'Mine' object has no attribute 'none'",
    """        return super().match(weights, x_real, x_syn, classes)

    def __init__(self, *, margin: float, **common):
        super().__init__(**common)""":
        "mine.Mine takes 'margin', which its YAML does not set: write a default there.",
}  # fmt: skip


@pytest.mark.parametrize("body", BROKEN, ids=["no scalar", "own error", "no default"])
def test_what_is_wrong_in_a_method_of_ones_own_is_said(ddist, body: str) -> None:
    lines = textwrap.dedent(CODE).lstrip().splitlines()[:-1]
    files = {**FILES, "mine.py": "\n".join([*lines, body])}
    for name, text in files.items():
        file = ddist.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip())
    found = f"import sys; sys.path.insert(0, {str(ddist.folder)!r})"
    done = ddist(*QUICK, "method=mine", "steps=2", "hydra.run.dir=run", before=found)
    assert done.code == 1 and BROKEN[body] in done.err and "report" not in done.err, done.err


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ({"_target_": "x", "published": {"steps": 3}}, "method.published is no setting any more"),
        ({"method": {"_target_": "x"}}, "let it begin with '# @package _global_'"),
        ({}, "Nothing is left of method"),
    ],
)
def test_files_of_another_form_are_named(method: dict, sentence: str) -> None:
    groups = {name: {"_target_": "x"} for name in KEYS}
    with pytest.raises(DdistError, match=sentence):
        check_needed(OmegaConf.create({**groups, "method": method}))
