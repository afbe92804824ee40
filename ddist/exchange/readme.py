"""READMEs of exported sets: code that reads the files in their folder, without ddist."""

from pathlib import Path

from jinja2 import FileSystemLoader

from ddist.artifact.card import TEMPLATES, learned_by_regression
from ddist.artifact.dataset import DistilledDataset

TEMPLATE = TEMPLATES.overlay(loader=FileSystemLoader(Path(__file__).parent))
REST = "Everything else is in the file's `meta` (JSON) and `config` (YAML).\n"
ELSEWHERE = {"torch": REST, "npz": REST, "png": ""}


def loading(distilled: DistilledDataset, format: str) -> str:
    """Say in Markdown how to load the files of ``format`` (png, npz or torch) and train on them.

    The first block of code leaves ``images`` [M, C, H, W] in training space, their ``labels`` (and
    ``weights``) as ``distilled.examples()`` has them, and ``normalize`` for test images.
    """
    num, channels, height, width = distilled.images.shape
    return TEMPLATE.get_template("readme.md.j2").render(
        distilled=distilled,
        format=format,
        num=num,
        channels=channels,
        height=height,
        width=width,
        factor=distilled.factor,
        soft=distilled.labels.is_floating_point(),
        temperature=f"{distilled.label_temperature or 0:g}",
        by_regression=learned_by_regression(distilled),
    )
