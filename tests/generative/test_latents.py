"""The cache of latents: what is in it, and what is done only once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.generative import PCA, Identity, Latents, Pair

ROWS = 300  # digits to a file: 5 files


class Halved(Identity):
    """Counts the images that it encodes; ``stop_after`` so many it is interrupted."""

    images_at_once = 100
    signature = "halved"

    def __init__(self) -> None:
        self.encoded, self.stop_after = 0, 10**9

    def encode(self, pixels: Tensor) -> Tensor:
        if self.encoded >= self.stop_after:
            raise KeyboardInterrupt
        self.encoded += len(pixels)
        return pixels / 2


@pytest.fixture
def latents(digits: RealData, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Latents]:
    monkeypatch.setattr("ddist.generative.latents.SHARD_BYTES", ROWS * 4 * 64)

    def build(pair: Pair, data: RealData = digits) -> Latents:
        pair.prepare(data, 0)
        return Latents(data, pair)

    return build


def files(latents: Latents) -> list[Path]:
    return sorted(latents.folder.glob("*.npy"))


def test_they_are_the_latents_of_each_class(
    digits: RealData, latents: Callable[..., Latents]
) -> None:
    found = latents(Halved())
    found.prepare()
    assert [np.load(file).shape for file in files(found)] == [(300, 64)] * 4 + [(152, 64)]
    for c in range(10):
        expected = (digits.train.x[digits.train.y == c].flatten(1).float() / 510).numpy()
        rows = found.of_class(c)
        assert len(rows) == len(expected)
        np.testing.assert_array_equal(rows[:], expected)
        np.testing.assert_array_equal(rows[3:60], expected[3:60])
        some = np.array([0, 7, 100, 120])
        np.testing.assert_array_equal(rows[some], expected[some])


def test_a_second_run_encodes_nothing(latents: Callable[..., Latents]) -> None:
    latents(Halved()).prepare()
    again = Halved()
    found = latents(again)
    found.prepare()
    found.of_class(0)[:]
    assert again.encoded == 0


def test_an_interrupted_run_goes_on(latents: Callable[..., Latents]) -> None:
    pair = Halved()
    pair.stop_after = 700  # in the third file
    with pytest.raises(KeyboardInterrupt) as stopped:
        latents(pair).prepare()
    (kept,) = stopped.value.__notes__
    assert kept.startswith("600 of 1,352 images are encoded and kept in ")
    again = Halved()
    found = latents(again)
    found.prepare()
    assert again.encoded == 752 and len(files(found)) == 5
    assert not list(found.folder.glob("*.partial"))


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "header"])
def test_a_file_that_is_damaged_is_encoded_anew_alone(
    latents: Callable[..., Latents], caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    found = latents(Halved())
    found.prepare()
    expected = found.of_class(4)[:]
    file = files(found)[2]
    content = bytearray(file.read_bytes())
    place = 5 if harm == "header" else -100
    content[place] ^= 255
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(content[:-40] if harm == "cut" else content)
    again = Halved()
    mended = latents(again)
    if harm in ("cut", "remove"):
        mended.prepare()
    np.testing.assert_array_equal(mended.of_class(4)[:], expected)
    assert again.encoded == 300 and len(files(mended)) == 5
    assert ("is damaged; it is made anew" in caplog.text) == (harm in ("flip", "header"))


def test_a_file_that_is_removed_during_the_run_is_encoded_again(
    latents: Callable[..., Latents],
) -> None:
    found = latents(Halved())
    found.prepare()
    expected = found.of_class(0)[:]
    for file in files(found):
        file.unlink()
    np.testing.assert_array_equal(found.of_class(0)[:], expected)


def test_other_images_or_another_encoder_are_other_latents(
    real_data: Callable[..., RealData], latents: Callable[..., Latents]
) -> None:
    pairs = [Halved(), Identity(), *(PCA(components=n, num_images=None) for n in (3, 4))]
    folders = {latents(pair).folder for pair in pairs}
    some = real_data("digits", subset=20).load()
    folders.add(latents(Identity(), some).folder)
    assert len(folders) == 5


def test_a_disk_that_is_too_small_or_full_is_one_sentence(
    latents: Callable[..., Latents], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    found = latents(Halved())
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: Usage)
        with pytest.raises(DdistError, match=r"latents need 346\.8 kB in .*, but 1\.0 kB are free"):
            found.prepare()

    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ddist.storage.sharing.write_file", full)
        with pytest.raises(DdistError, match=r"latents' .* No space left on device; make room"):
            found.prepare()
    assert {path.suffix for path in found.folder.iterdir()} <= {".lock"}


def test_latents_that_are_no_numbers_are_refused(latents: Callable[..., Latents]) -> None:
    pair = Halved()
    pair.encode = lambda pixels: pixels / 0  # type: ignore[method-assign]
    with pytest.raises(DdistError, match=r"\(identity\) gave latents that are no finite numbers"):
        latents(pair).prepare()


def test_what_another_process_encodes_is_waited_for(
    latents: Callable[..., Latents], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """It holds the file 1, and dies without having written it once all others are there."""
    from ddist.storage import sharing

    caplog.set_level("INFO")
    monkeypatch.setattr("ddist.storage.sharing.PATIENCE", 0.01)
    pair = Halved()
    found = latents(pair)
    held = sharing.claimed(found.folder / "000001.lock", 0, "latents")
    assert held.__enter__()
    original = sharing.claimed

    def watching(path: Path, seconds: float, what: str):  # type: ignore[no-untyped-def]
        if seconds > 0:
            assert len(files(found)) == 4 and pair.encoded == 1052
            held.__exit__(None, None, None)
        return original(path, seconds, what)

    monkeypatch.setattr("ddist.storage.sharing.claimed", watching)
    found.prepare()
    assert pair.encoded == 1352 and "Waiting for other processes" in caplog.text
    x = found.data.train.x[found.data.train.y == 3].flatten(1)
    assert torch.equal(torch.from_numpy(found.of_class(3)[:]), x / 255 / 2)
