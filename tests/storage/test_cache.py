from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddist.errors import DdistError
from ddist.storage.cache import cached_tensors


def compute() -> dict[str, Tensor]:
    return {"x": torch.arange(6).view(2, 3).T}  # not contiguous: still savable


def refuse() -> dict[str, Tensor]:
    raise AssertionError("computed again")


def test_computes_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.safetensors"
    first = cached_tensors(path, compute)
    assert torch.equal(cached_tensors(path, refuse)["x"], first["x"])


def test_a_truncated_file_is_computed_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    cached_tensors(path, compute)
    path.write_bytes(path.read_bytes()[:-5])
    assert torch.equal(cached_tensors(path, compute)["x"], compute()["x"])
    cached_tensors(path, refuse)  # and mended


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(tensors: dict[str, Tensor], path: Path, noted: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("ddist.storage.cache.save_file", interrupted)
    with pytest.raises(DdistError, match=r"No space left.*paths\.cache"):
        cached_tensors(tmp_path / "x.safetensors", compute)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_flipped_bit_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.safetensors"
    cached_tensors(path, compute)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert torch.equal(cached_tensors(path, compute)["x"], compute()["x"])
    assert "is damaged; it is made anew" in caplog.text
    cached_tensors(path, refuse)
