from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kornia.enhance import ZCAWhitening

from ddist.data import RealData, whitening
from ddist.data.whitening import cached_zca, fit_zca, hash_tensors
from ddist.errors import DdistError


def test_is_kornias_on_real_images(digits: RealData, monkeypatch: pytest.MonkeyPatch) -> None:
    """MTT's call: ZCAWhitening(eps=0.1, compute_inv=True) on pixels in [0, 1]."""
    monkeypatch.setattr(whitening, "CHUNK", 100)  # several chunks
    x = digits.train.x
    reference = ZCAWhitening(eps=0.1, compute_inv=True).fit(x.double() / 255)
    zca = cached_zca(x, digits.cache)
    expected = reference(x.double() / 255).float()
    torch.testing.assert_close(zca(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        zca.inverse(expected), reference.inverse_transform(expected.double()).float(),
        atol=1e-5, rtol=1e-5,
    )  # fmt: skip


def test_fewer_images_than_pixels_give_finite_matrices(digits: RealData) -> None:
    fitted = fit_zca(digits.train.x[:5])
    assert fitted["whiten"].isfinite().all()
    with pytest.raises(DdistError, match="at least 2"):
        fit_zca(digits.train.x[:1])


def test_is_fitted_once_for_the_same_images(
    digits: RealData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = digits.train.x
    first = cached_zca(x, tmp_path)
    monkeypatch.setattr(whitening, "fit_zca", None)
    again = cached_zca(x, tmp_path)
    assert torch.equal(first.whiten, again.whiten)
    with pytest.raises(TypeError):
        cached_zca(x[1:], tmp_path)  # other images: other matrices


def test_real_data_whitens_with_its_training_images(real_data: Callable[..., RealData]) -> None:
    data = real_data("digits", normalize="zca").load()
    assert data.normalization.state()["kind"] == "zca"
    x = next(data.batches(data.train, len(data.train)))[0].flatten(1).double()
    variance = torch.cov(x.T).diagonal()
    assert x.mean(0).abs().max() < 1e-5
    assert variance.max() < 1  # S / (S + eps)
    with_validation = real_data("digits", normalize="zca", validation=0.2).load()
    assert with_validation.fingerprint() != data.fingerprint()


def test_hash_sees_shape_type_and_content() -> None:
    x = torch.zeros(4, dtype=torch.uint8)
    others = [x.view(2, 2), x.to(torch.int8), x + 1, torch.zeros(5, dtype=torch.uint8)]
    assert len({hash_tensors(t) for t in [x, *others]}) == 5
    assert hash_tensors(x) == hash_tensors(x.clone())
