"""Make a folder of many pictures, to see how large a folder ddist copes with.

    python scripts/make_pictures.py FOLDER --classes 200 --per-class 500 --side 64

Each class is a colour and a grating, at a random phase, in noise: FOLDER/train/c000/0000.jpg.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image


def picture(label: int, side: int, random: np.random.Generator) -> Image.Image:
    """Draw a picture of class ``label``."""
    own = np.random.default_rng(label)
    colour, angle, waves = own.uniform(60, 200, 3), own.uniform(0, np.pi), own.uniform(2, side / 6)
    rows, columns = np.mgrid[:side, :side] / side
    place = rows * np.sin(angle) + columns * np.cos(angle)
    grating = np.sin(2 * np.pi * (waves * place + random.uniform()))
    pixels = colour + 50 * grating[..., None] + random.normal(0, 25, (side, side, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--per-class", type=int, default=500)
    parser.add_argument("--side", type=int, default=64)
    arguments = parser.parse_args()
    for label in range(arguments.classes):
        folder = arguments.folder / "train" / f"c{label:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng([label, 1])
        for number in range(arguments.per_class):
            picture(label, arguments.side, random).save(folder / f"{number:04d}.jpg")


if __name__ == "__main__":
    main()
