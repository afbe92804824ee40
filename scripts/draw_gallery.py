"""The documents' pictures of distilled images: ten MNIST digits by each family of methods.

DDIST_DATA=… python scripts/draw_gallery.py [FOLDER]

Distils what FOLDER (outputs/gallery) does not have yet, some 25 minutes of one CPU core in all, in
few steps: the pictures show what images of a family look like, not how good they are. Draws
.github/pages/gallery.png, a strip for each, distilling.gif, the run of dc, clp_imagenette.jpg
and page_*.png.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

import ddist

PAGES = Path(__file__).parents[1] / ".github" / "pages"
TEACHER = "network=convnet_bn network.width=32 teacher.train_per_class=500 teacher.epochs=6"
NARROW = "network.width=32 method.real_per_class=64"
COMMON = (
    "dataset=mnist ipc=1 evaluation=knn task.baseline=false reference.coreset.select=null threads=1"
)
RUNS = {
    "random": ("real images, drawn at random", "method=random"),
    "rded": ("selection (rded): crops that a teacher is surest of", f"method=rded {TEACHER}"),
    "ddoq": ("generative (ddoq): decoded centroids", "method=ddoq"),
    "dd": ("performance matching (dd): through the training", "method=dd init=fixed steps=1000"),
    "kip": ("kernel regression (kip)", "method=kip steps=600"),
    "dc": ("gradient matching (dc)",
           f"method=dc {NARROW} steps=150 method.lr.images=1 callbacks.images.num_pictures=50"),
    "dm": ("distribution matching (dm)", f"method=dm {NARROW} steps=500"),
    "ncfm": ("characteristic functions, 2x2 images in each (ncfm)", None),
    "mtt": ("trajectory matching (mtt)",
            "method=mtt network.width=16 dataset.subset=500 trajectories.num_experts=5 steps=100 "
            "method.student_steps=10 method.lr.images=0.1"),
    "sre2l": ("inverting a teacher (sre2l)", f"method=sre2l {TEACHER} steps=300"),
}  # fmt: skip
"""What stands beside a strip, and the words of its run; None: the ready-made set of MNIST."""


def distilled(name: str, words: str | None, folder: Path) -> ddist.DistilledDataset:
    if words is None:
        return ddist.load("mnist-1")
    if not (folder / "distilled").exists():
        command = [*words.split(), *COMMON.split(), f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, "-m", "ddist", *command], check=True)
    return ddist.load(folder / "distilled")


def draw_gallery(folder: Path) -> None:
    canvas = Figure(figsize=(9, 0.98 * len(RUNS)), facecolor="white", layout="constrained")
    for axes, (name, (title, words)) in zip(canvas.subplots(len(RUNS)), RUNS.items(), strict=True):
        images = distilled(name, words, folder / name).to_pixels()[:, 0]  # [10, H, W]
        axes.imshow(images.permute(1, 0, 2).flatten(1), cmap="gray", vmin=0, vmax=1)
        axes.set_title(title, loc="left", fontsize=9, pad=3)
        axes.axis("off")
    canvas.savefig(PAGES / "gallery.png", dpi=90)


def draw_photos(folder: Path) -> None:
    """Picture images of ImageNette's ten classes for a linear probe; the run takes some 6 minutes
    and the folder imagenette128 in DDIST_DATA."""
    words = (
        f"experiment=laptop/clp dataset.folder={os.environ.get('DDIST_DATA', '.')}/imagenette128 "
        f"steps=100 budget=null hydra.run.dir={folder}"
    )
    if not (folder / "distilled").exists():
        subprocess.run([sys.executable, "-m", "ddist", *words.split()], check=True)
    pixels = ddist.load(folder / "distilled").to_pixels().clamp(0, 1)  # [10, 3, H, W]
    picture = make_grid(pixels, nrow=5, padding=4, pad_value=1)
    to_pil_image(picture).save(PAGES / "clp_imagenette.jpg", quality=85)


def animate(folder: Path) -> None:
    """Write the pictures that a run has kept as an animation that ends in a pause."""
    files = sorted((folder / "images").glob("step_*.png"))
    pictures = [Image.open(file).convert("L") for file in files]
    frames = [picture.reduce(2).quantize(16) for picture in pictures]  # below 1 MB
    frames[0].save(
        PAGES / "distilling.gif",
        save_all=True,
        append_images=frames[1:],
        duration=[80] * (len(frames) - 1) + [2500],
        loop=0,
        optimize=True,
    )


def shoot(folder: Path) -> None:
    """Picture the page of the demo, light and dark, where a headless Chromium is found."""
    browser = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if browser is None:
        print("No chromium: the pictures of a run's page stay as they are.", file=sys.stderr)
        return
    if not (folder / "report.html").exists():
        command = [sys.executable, "-m", "ddist", f"hydra.run.dir={folder}"]
        subprocess.run(command, check=True)
    for number, name in enumerate(("dark", "light")):
        file = PAGES / f"page_{name}.png"
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1000,840",
                   f"--blink-settings=preferredColorScheme={number}",
                   f"--screenshot={file}"]  # fmt: skip
        page = (folder / "report.html").absolute().as_uri()
        subprocess.run([browser, *options, page], check=True, capture_output=True)
        Image.open(file).convert("RGB").quantize(64).save(file, optimize=True)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/gallery")
    draw_gallery(folder)
    draw_photos(folder / "photos")
    animate(folder / "dc")
    shoot(folder / "demo")
