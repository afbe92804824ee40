"""Encoders and decoders on the bundled digits."""

import pytest
import sklearn.decomposition
import torch

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.generative import PCA, Autoencoder, Identity, Pair
from ddist.generative.autoencoder import Network, negative_elbo
from ddist.seeding import generator
from ddist.tasks.config import composed_apart, register_resolvers
from ddist.tasks.targets import make

QUICK = {"dims": 8, "width": 8, "steps": 60, "batch_size": 64, "lr": 0.01, "noise": 0.2}


def pixels(data: RealData) -> torch.Tensor:
    return data.train.x.float() / 255


def error(pair: Pair, data: RealData) -> float:
    """The mean squared error of what is encoded and decoded, relative to the variance."""
    x = pixels(data)
    decoded = pair.decode(pair.encode(x), data.train.y, generator(0))
    assert decoded.shape == x.shape and decoded.dtype == torch.float32
    return float((decoded - x).square().mean() / x.var(0).mean())


@pytest.mark.parametrize("name", ["identity", "pca", "autoencoder"])
def test_every_option_encodes_and_decodes(digits: RealData, name: str) -> None:
    quick = {"steps": 60} if name == "autoencoder" else {}
    register_resolvers()
    config = composed_apart([f"generative={name}"]).generative
    pair: Pair = make({**config, **quick})
    pair.prepare(digits, 0)
    z = pair.encode(pixels(digits)[:7])
    assert z.shape == (7, *pair.latent_shape) and not z.requires_grad
    assert error(pair, digits) < {"identity": 1e-9, "pca": 0.1, "autoencoder": 0.9}[name]
    assert name in str(pair) and name in pair.signature


def test_one_batch_of_components_is_scikit_learns_pca(digits: RealData) -> None:
    pair = PCA(components=20, num_images=None)
    many = PCA(components=20, num_images=600)  # one batch
    pair.prepare(digits, 0)
    many.prepare(digits, 0)
    rows = torch.randperm(1352, generator=generator(0, "pca"))[:600]
    x = pixels(digits).flatten(1)
    theirs = sklearn.decomposition.PCA(20, svd_solver="full").fit(x[rows].double().numpy())
    ours = many.decode(many.encode(pixels(digits)), digits.train.y, generator(0)).flatten(1)
    expected = theirs.inverse_transform(theirs.transform(x.double().numpy()))
    torch.testing.assert_close(ours.double(), torch.from_numpy(expected), atol=1e-4, rtol=0)
    best = sklearn.decomposition.PCA(20).fit(x.numpy())
    assert error(pair, digits) < 1.05 * (1 - best.explained_variance_ratio_.sum())


def test_too_many_components(digits: RealData) -> None:
    for options, most in (({"components": 65, "num_images": None}, 64),
                          ({"components": 11, "num_images": 10}, 10)):  # fmt: skip
        with pytest.raises(DdistError, match=f"choose at most {most}"):
            PCA(**options).prepare(digits, 0)


def test_the_loss_is_that_of_the_paper() -> None:
    network = Network((3, 9, 6), 4, 8).double()
    x = torch.rand(5, 3, 9, 6, generator=generator(1), dtype=torch.float64)
    epsilon = torch.randn(5, 4, generator=generator(2), dtype=torch.float64)
    mean, log_variance = network.encode(x)
    code = torch.distributions.Normal(mean, (log_variance / 2).exp())
    seen = torch.distributions.Normal(network.decode(mean + epsilon * code.stddev), 0.3)
    constant = torch.distributions.Normal(x, 0.3).log_prob(x).flatten(1).sum(1)
    likelihood = seen.log_prob(x).flatten(1).sum(1) - constant
    standard = torch.distributions.Normal(torch.zeros(4).double(), 1.0)
    divergence = torch.distributions.kl_divergence(code, standard).sum(1)
    expected = (divergence - likelihood).mean()
    torch.testing.assert_close(negative_elbo(network, x, epsilon, 1 / 0.3**2), expected)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 128, 128), (3, 37, 5)])
def test_an_autoencoder_takes_images_of_any_size(shape: tuple[int, int, int]) -> None:
    network = Network(shape, 6, 4)
    x = torch.rand(2, *shape, generator=generator(0))
    assert network.encode(x)[0].shape == (2, 6)
    assert network.decode(torch.zeros(2, 6)).shape == (2, *shape)
    assert max(network.sizes[-1]) <= 8 < max(network.sizes[0]) or len(network.sizes) == 2


def test_an_autoencoder_is_trained_once_and_by_its_seed(
    digits: RealData, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.random.get_rng_state()
    x = pixels(digits)[:20]

    def codes(seed: int = 0, **changes: float) -> torch.Tensor:
        pair = Autoencoder(**(QUICK | changes))  # type: ignore[arg-type]
        pair.prepare(digits, seed)
        return pair.encode(x)

    first = codes()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(codes(seed=1), first) and not torch.equal(codes(noise=0.1), first)
    file, *_ = sorted((digits.cache / "autoencoder").glob("*.safetensors"))
    with monkeypatch.context() as patch:
        patch.setattr("ddist.generative.autoencoder.negative_elbo", None)  # nothing is trained
        assert torch.equal(codes(), first)
    for each in (digits.cache / "autoencoder").glob("*.safetensors"):
        each.write_bytes(each.read_bytes()[:-1])
    assert torch.equal(codes(), first) and file.exists()


def test_an_autoencoder_that_diverges_says_so(digits: RealData) -> None:
    with pytest.raises(DdistError, match=r"loss became nan: try a smaller generative\.lr"):
        Autoencoder(**(QUICK | {"lr": 1e9})).prepare(digits, 0)


def test_pixels_are_their_own_latents(digits: RealData) -> None:
    pair = Identity()
    pair.prepare(digits, 0)
    x = pixels(digits)
    assert pair.latent_shape == (1, 8, 8) and torch.equal(pair.encode(x), x)
