"""The page of a run: its figures are those of results.json, it needs nothing else, and nobody's
names break it. In a real browser where there is one."""

import base64
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ddist.report.embed
from ddist.artifact.dataset import DistilledDataset
from ddist.report.classes import classes, heat, most_confused, shares
from ddist.report.curve import curve
from ddist.report.embed import images_by_class, pictures_over_steps, png_size
from ddist.report.page import page

ROW: dict[str, Any] = {
    "protocol": "replay", "network": "mlp", "accuracy_mean": 0.9376, "accuracy_std": 0.004,
    "accuracy_ci95": 0.0018, "num_networks": 20, "chosen": {},
}  # fmt: skip
RESULTS: dict[str, Any] = {
    "schema": 1, "method": "dd", "dataset": "digits", "network": "mlp", "init": "random", "ipc": 2,
    "steps": 100, "seed": 7, "protocol": "replay",
    "evaluation": [ROW, {**ROW, "network": "lenet", "accuracy_mean": 0.4321}],
    "baselines": {"random": {**ROW, "accuracy_mean": 0.515}},
    "cost": {"distill_seconds": 200.2, "evaluate_seconds": 8.16, "peak_memory_bytes": None,
             "steps_per_second": 12.345, "artifact_bytes": 313_600},
    "provenance": {"ddist": "0.1.0", "torch": "2.15", "signature": "f9a22506", "config": {"a": 1}},
}  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
VOID = {"meta", "link", "img", "input"}


def make(num_classes: int = 10, ipc: int = 2, size: int = 8, **changes: Any) -> DistilledDataset:
    count = num_classes * ipc
    names = changes.pop("names", [f"class {i}" for i in range(num_classes)])
    fields: dict[str, Any] = {
        "images": torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0)),
        "labels": torch.arange(num_classes).repeat(ipc),
        "normalization": {"kind": "none"},
        "meta": {"dataset": "digits", "method": "dd", "ipc": ipc, "num_classes": num_classes,
                 "class_names": names, "image_shape": (1, size, size)},
        "config": "",
    }  # fmt: skip
    return DistilledDataset(**fields | changes)


def counts(num_classes: int = 10) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 50, (num_classes, num_classes))


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 0, 0)).save(buffer, format="png")
    return buffer.getvalue()


def whole(**changes: Any) -> str:
    """A page with all its parts."""
    steps = range(1, 101)
    options: dict[str, Any] = {
        "results": RESULTS,
        "distilled": make(),
        "location": "distilled",
        "confusion": {"evaluation/0": counts(), "baselines/random": counts().T},
        "metrics": {
            "distill/loss": [(s, 2 / s) for s in steps],
            "step_size/mean": [(s, 0.1) for s in steps],
            "step_size/min": [(s, 0.05) for s in steps],
            "step_size/max": [(s, 0.2) for s in steps],
        },
        "pictures": [(50, picture(50)), (100, picture(100)), (7, picture(7))],
        "overrides": ["ipc=2", "network.widths=[16, 8]"],
    }
    return page(**options | changes)


class Read(HTMLParser):
    """Elements with their attributes, and the text of what is seen; every tag has to be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.extend(data.split())

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]

    def has(self, text: str) -> bool:
        return " ".join(text.split()) in " ".join(self.text)


def test_it_is_well_formed_needs_nothing_else_and_every_image_opens() -> None:
    html = whole()
    found = Read(html)
    words = re.sub(r"base64,[^\"]*", "", html)
    assert not re.search(r"https?:|@import|url\(|//[a-z]", words)
    ids = [each["id"] for _, each in found.elements if "id" in each]
    assert len(ids) == len(set(ids))
    for each in found.all("a"):
        assert str(each["href"]).removeprefix("#") in ids
    for each in found.all("label", "output"):
        assert each.get("for", "slider") in ids
    sources = [str(each["src"]) for each in found.all("img") if "src" in each]
    assert len(sources) == 20 + 3 + 2  # of the set, over the steps, curves
    for source in sources:
        data = base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True)
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    assert all("alt" in each for each in found.all("img"))


def test_figures_are_those_of_results_json() -> None:
    found = Read(whole())
    assert found.has("distilled images mlp 93.76 ± 0.40 (20) 93.58 – 93.94")
    assert found.has("distilled images lenet 43.21 ± 0.40 (20)")
    assert found.has("random real images mlp 51.50 ± 0.40 (20)")
    assert found.has("distilling 3 min 20 s") and found.has("distilled data 313.6 kB")
    assert found.has("signature f9a22506") and found.has("seed 7")
    assert found.has("ddist ipc=2 'network.widths=[16, 8]'")
    assert found.has("ddist.load('distilled') # from this run's folder")
    code = whole(results={**RESULTS, "figures": {"quantization_error": 8.29}})
    assert "# from this run's folder\nbatches" in code
    assert Read(code).has("latent W2² 8.29 Images")


def test_protocols_never_share_a_table() -> None:
    rows = [ROW, {**ROW, "protocol": "dc2021", "accuracy_mean": 0.25}]
    html = whole(results={**RESULTS, "evaluation": rows})
    for table in re.findall(r"<table>.*?</table>", html, re.S):
        assert not ("93.76" in table and "25.00" in table)


def test_the_matrix_and_the_classes_are_the_counts() -> None:
    matrix = counts()
    found = Read(whole())
    for i, row in enumerate(100 * matrix / matrix.sum(1, keepdims=True)):
        assert found.has(f"class {i} " + " ".join(f"{share:.1f}" for share in row))
        random = 100 * matrix.T[i, i] / matrix.T[i].sum()
        assert found.has(f"class {i} {row[i]:.1f} {random:.1f}")


def test_the_frames_are_in_the_order_of_the_steps_and_the_last_is_shown() -> None:
    html = whole()
    frames = html[html.index('id="frames"') :]
    frames = frames[: frames.index("</section>")]
    assert re.findall(r'caption="(.*?)"( hidden)?', frames) == [
        ("step 7", " hidden"), ("step 50", " hidden"), ("step 100", "")
    ]  # fmt: skip
    assert 'id="slider" min="0" max="2" value="2"' in html


def test_what_is_missing_is_left_out() -> None:
    results = {**RESULTS, "cost": {}, "baselines": {}, "provenance": {}, "steps": None}
    html = page(results, make(), location="somewhere/else")
    found = Read(html)
    ids = {each.get("id") for each in found.all("section")}
    assert ids & {"steps", "curves", "classes"} == set() and {"result", "images", "run"} <= ids
    assert "Reproduce" not in html and "from this run's folder" not in html


def test_what_comes_from_outside_is_escaped() -> None:
    evil = '<script>alert("1")</script>'
    names = [evil, *[f'"{i}' for i in range(9)]]
    html = whole(
        distilled=make(names=names),
        results={**RESULTS, "dataset": evil, "provenance": {"config": {"x": evil}}},
        overrides=[evil],
        metrics={evil: [(1, 0.0), (2, 1.0)]},
        location=evil,
    )
    Read(html)
    assert html.count("<script>") == 1 and "alert(&#34;1&#34;)" in html


def test_large_sets_are_sampled_and_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    many = make(num_classes=120, ipc=5, size=4)
    rows, note = images_by_class(many)
    assert sum(len(images) for _, images in rows) == 240
    assert "first 2 of 5 images per class" in note
    monkeypatch.setattr(ddist.report.embed, "MAX_IMAGE_BYTES", 10 * 3 * 16)
    rows, note = images_by_class(many)
    assert [len(images) for _, images in rows] == [1] * 10 and "first 10 of 120 classes" in note


def test_images_are_the_sets_own(monkeypatch: pytest.MonkeyPatch) -> None:
    distilled = make(step_index=torch.arange(20), weights=torch.full((20,), 0.5))
    (name, images), *_ = images_by_class(distilled)[0]
    assert name == "class 0" and [each.caption for each in images] == [
        "class 0 · image 0 · step 1 · weight 0.5", "class 0 · image 10 · step 11 · weight 0.5"
    ]  # fmt: skip
    data = base64.b64decode(images[1].uri.partition(",")[2])
    with Image.open(io.BytesIO(data)) as image:
        expected = (255 * distilled.images[10, 0]).round().numpy()
        assert (np.asarray(image) == expected).all()
    soft = make(labels=torch.eye(10).repeat(2, 1) * 0.5 + 0.05)
    assert "label class 0 0.55" in images_by_class(soft)[0][0][1][0].caption


def test_pictures_are_thinned_out_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [(step, picture(step)) for step in (10, 20, 30, 40, 50)] + [(60, b"no picture")]
    monkeypatch.setattr(ddist.report.embed, "MAX_PICTURE_BYTES", 3 * len(picture(10)) + 9)
    found, note = pictures_over_steps(pictures)
    assert [step for step, _ in found] == [10, 30, 50] and note == "3 of 5 pictures"
    monkeypatch.setattr(ddist.report.embed, "MAX_PICTURE_BYTES", 1)
    assert pictures_over_steps(pictures) == ([], "") and pictures_over_steps([]) == ([], "")
    assert png_size(picture(1)[:40]) is None


def test_many_classes_are_a_picture_and_their_extremes() -> None:
    matrix = counts(200)
    matrix[5] = 0
    found = classes("mlp", matrix, [str(i) for i in range(200)])
    assert found.matrix == [] and found.picture is not None
    assert png_size(found.picture) == (200, 200)
    assert len(found.rows) == 40 and "20 lowest and the 20 highest of 200" in found.rows_note
    assert "5" not in [row.name for row in found.rows[:20]]  # no images, so no accuracy
    with Image.open(io.BytesIO(heat(np.eye(3)))) as image:
        assert image.getpixel((1, 1)) == (253, 231, 36) and image.getpixel((0, 1)) == (68, 1, 84)


def test_the_worst_mistakes_come_first() -> None:
    matrix = np.array([[8, 2, 0], [1, 0, 9], [0, 0, 0]])
    pairs = most_confused(shares(matrix), ["a", "b", "c"])
    assert pairs == [("b", "c", 0.9), ("a", "b", 0.2), ("b", "a", 0.1)]


def test_curves_average_what_is_dense_and_keep_its_range_as_a_band() -> None:
    noise = np.random.default_rng(0).uniform(1e-3, 10, 5000)
    dense = curve("loss", list(enumerate(noise.tolist(), start=1)))
    assert dense is not None and dense.logarithmic and "mean of 17" in dense.note
    assert len(dense.steps) == 295 and dense.steps[0] == 9
    assert dense.values[1] == pytest.approx(noise[17:34].mean())
    assert min(dense.low) == noise.min() and max(dense.high) == noise.max()
    assert f"largest {noise.max():.3g} at step {noise.argmax() + 1}" in dense.description
    with Image.open(io.BytesIO(dense.picture())) as picture:
        assert picture.size == (576, 288) and len(picture.convert("RGB").getcolors(1 << 20)) > 20
    flat = curve("flat", [(1, 0.5), (2, float("nan")), (3, 0.5)])
    assert flat is not None and flat.values == flat.low == flat.high == [0.5, 0.5]
    assert not flat.logarithmic
    assert curve("one", [(1, 0.5)]) is None and curve("none", []) is None


def test_the_band_of_three_metrics_goes_from_the_smallest_to_the_largest() -> None:
    low, mean, high = ([(x, y) for x in (0.0, 1.0)] for y in (1.0, 2.0, 3.0))
    band = curve("step size", mean, low, high)
    assert band is not None and (band.low, band.high) == ([1.0, 1.0], [3.0, 3.0])


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[str], str]:
    """``browse(html)``: the document after a headless Chromium has run its script."""
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip("no browser: install chromium, so that `chromium` is found")

    def dump(html: str) -> str:
        (tmp_path / "report.html").write_text(html)
        done = subprocess.run(
            [found[0], "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
             f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "report.html").as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        return done.stdout

    return dump


def test_in_a_browser_slider_filter_and_enlargement_work(browse: Callable[[str], str]) -> None:
    """What a hand would do, appended to the page's own script."""
    acts = """
    const said = [];
    addEventListener("error", event => said.push("error " + event.message));
    const slider2 = byId("slider"); slider2.value = 0; slider2.dispatchEvent(new Event("input"));
    said.push(byId("step").value, [...byId("frames").children].map(f => +f.hidden).join(""));
    const filter2 = byId("filter"); filter2.value = "3"; filter2.dispatchEvent(new Event("change"));
    said.push([...document.querySelectorAll(".class")].map(s => +s.hidden).join(""));
    const first = visible()[0]; first.click();
    said.push(dialog.open, byId("caption").textContent, large.src.length > 99);
    move(1); said.push(byId("caption").textContent); dialog.close();
    const broken = [...document.querySelectorAll("img[src]")].filter(i => !i.complete);
    said.push("broken " + broken.length, "said " + performance.getEntriesByType("resource")
      .filter(r => !r.name.startsWith("data:")).length);
    document.body.dataset.said = said.join("|");
    """
    html = whole().replace("</script>", f"addEventListener('load', () => {{{acts}}});</script>")
    found = re.search(r'data-said="(.*?)"', browse(html))
    assert found is not None
    assert found[1] == (
        "step 7|011|1110111111|true|class 3 · image 3|true|class 3 · image 13|broken 0|said 0"
    )
