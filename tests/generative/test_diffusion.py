"""Pairs of the diffusers library, on tiny pipelines with random weights."""

import functools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor
from torchvision.models import ResNet18_Weights

from ddist import DistilledDataset
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.generative import VAE, Latents, Pair
from ddist.generative.dit import find_ids
from ddist.generative.stable_diffusion import find_names
from ddist.init import Random
from ddist.methods import DDOQ
from ddist.seeding import generator
from ddist.tasks.config import conf_dir, register_resolvers
from ddist.tasks.targets import maker

pytestmark = pytest.mark.slow  # each composes, builds or trains

NAMES = ("hen", "old_friend", "tench")
CLASSES = torch.tensor([0, 2, 1, 2])


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """A file of 16x16 colour images of three classes: smooth blobs in each class's colour."""
    stream = np.random.RandomState(0)
    coarse = stream.rand(60, 2, 2, 3) + np.eye(3)[np.arange(60) % 3][:, None, None]
    x = (coarse / 2 * 255).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    y = np.arange(60) % 3
    file = tmp_path / "blobs.npz"
    np.savez(file, x_train=x[:45], y_train=y[:45], x_test=x[45:], y_test=y[45:])
    return file


@pytest.fixture
def blobs(arrays: Path, real_data: Callable[..., RealData]) -> RealData:
    data = real_data("arrays", source={"file": str(arrays)}).load()
    data.class_names = NAMES
    return data


def options(name: str, **changes: Any) -> dict[str, Any]:
    """What conf/generative/<name>.yaml says, on the CPU."""
    words = (f"generative={name}", "method=ddoq", "trainer.accelerator=cpu")
    return {**composed(*words).generative, **changes}


@functools.cache
def composed(*words: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", list(words))


@pytest.fixture
def make(models: SimpleNamespace, blobs: RealData) -> Callable[..., Any]:
    """``make(name, **changes)``: a prepared pair."""

    def build(name: str, **changes: Any) -> Any:
        settings = options(name, model=str(getattr(models, name)), batch_size=8, **changes)
        pair: Pair = instantiate(settings)
        pair.prepare(blobs, 0)
        return pair

    return build


def pixels(data: RealData) -> Tensor:
    return data.train.x[:4].float() / 255


def noise(shape: Any) -> Tensor:
    return torch.randn(shape, generator=generator(5))


def decoded(pair: Pair, z: Tensor, classes: Tensor = CLASSES, seed: int = 5) -> Tensor:
    return pair.decode(z, classes, generator(seed))


@pytest.mark.parametrize("name", ["vae", "stable_diffusion", "dit"])
def test_latents_are_the_scaled_modes(
    make: Callable[..., Any], models: SimpleNamespace, blobs: RealData, name: str
) -> None:
    from diffusers import AutoencoderKL

    pair, x = make(name), pixels(blobs)
    vae = AutoencoderKL.from_pretrained(models.vae, low_cpu_mem_usage=False)
    with torch.no_grad():
        mean = vae.quant_conv(vae.encoder(2 * x - 1)).chunk(2, 1)[0]
        back = vae.decoder(vae.post_quant_conv(mean)) / 2 + 0.5
    z = pair.encode(x)
    torch.testing.assert_close(z, 0.18215 * mean)
    assert z.shape == (4, *pair.latent_shape) == (4, 4, 8, 8) and not z.requires_grad
    found = decoded(make(name) if name == "vae" else make(name, strength=0), z)
    torch.testing.assert_close(found, back.clamp(0, 1))
    assert found.shape == x.shape and name in str(pair)


def test_a_shift_and_a_scale_are_undone(models: SimpleNamespace, blobs: RealData) -> None:
    """Of autoencoders other than Stable Diffusion's."""
    pair = VAE(**without_target(options("vae", model=str(models.vae))))
    pair.prepare(blobs, 0)
    z, x = pair.encode(pixels(blobs)), decoded(pair, pair.encode(pixels(blobs)))
    pair.shift, pair.scale = 0.3, 2.0
    torch.testing.assert_close(pair.encode(pixels(blobs)), (z / 0.18215 - 0.3) * 2)
    torch.testing.assert_close(decoded(pair, pair.encode(pixels(blobs))), x)


def without_target(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "_target_"}


# Diffusers 0.42 calls numpy in a way that numpy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("strength", "guidance", "scheduler"),
    [(0.7, 8.0, None), (0.5, 1.0, None), (1.0, 3.0, "DDIMScheduler"), (0.4, 3.0, "DPMSolver"),
     (0.5, 2.0, "EulerDiscreteScheduler"), (0.5, 2.0, "DDPMScheduler")],
)  # fmt: skip
def test_stable_diffusion_is_the_librarys_image_to_image(
    make: Callable[..., Any], models: SimpleNamespace, blobs: RealData, monkeypatch: Any,
    strength: float, guidance: float, scheduler: str | None,
) -> None:  # fmt: skip
    """Given the same latents, noise and sentences."""
    import diffusers

    settings = {"strength": strength, "guidance": guidance, "inference_steps": 10}
    pair = make("stable_diffusion", prompt="a {} here", **settings)
    theirs = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(
        models.stable_diffusion, safety_checker=None, requires_safety_checker=False,
        low_cpu_mem_usage=False,
    )  # fmt: skip
    theirs.set_progress_bar_config(disable=True)
    if scheduler:
        kind = getattr(diffusers, scheduler.replace("DPMSolver", "DPMSolverMultistepScheduler"))
        theirs.scheduler = kind.from_config(theirs.scheduler.config)
        pair.scheduler = kind.from_config(theirs.scheduler.config)
    z = pair.encode(pixels(blobs))
    expected = theirs(
        prompt=[f"a {NAMES[c].replace('_', ' ')} here" for c in CLASSES],
        negative_prompt=["cartoon, anime, painting"] * 4,
        image=z, strength=strength, guidance_scale=guidance, num_inference_steps=10,
        generator=generator(5), output_type="pt",
    ).images  # fmt: skip
    torch.testing.assert_close(decoded(pair, z), expected, atol=1e-4, rtol=0)


def test_dit_from_noise_alone_is_the_librarys_pipeline(
    make: Callable[..., Any], models: SimpleNamespace, blobs: RealData
) -> None:
    """DiTPipeline's guidance has 1000 as the class of nothing; here it is one after the last."""
    from diffusers import DiTPipeline

    pair = make("dit", strength=1.0, guidance=3.0, inference_steps=8)
    theirs = DiTPipeline.from_pretrained(models.dit, low_cpu_mem_usage=False)
    theirs.set_progress_bar_config(disable=True)
    forward = theirs.transformer.forward

    def known(x: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        return forward(x, timestep, class_labels.clamp(max=6))

    theirs.transformer.forward = known
    pair.scheduler.add_noise = lambda z, epsilon, t: epsilon  # nothing is left of the prototype
    z = pair.encode(pixels(blobs))
    expected = theirs(
        [5, 0, 3, 0], guidance_scale=3.0, num_inference_steps=8, generator=generator(5),
        output_type="pt",
    ).images  # fmt: skip
    torch.testing.assert_close(decoded(pair, z), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["stable_diffusion", "dit"])
def test_one_step_is_the_papers_formulas(
    make: Callable[..., Any], blobs: RealData, name: str
) -> None:
    """z_t = sqrt(alpha_t) z + sqrt(1 - alpha_t) epsilon, then DDIM's (Song et al. 2021, eq. 12)
    prediction of z_0 under guidance, written out."""
    from diffusers import DDIMScheduler

    pair = make(name, strength=0.5, guidance=3.0, inference_steps=2)
    betas = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
    spacing = {"timestep_spacing": "trailing"}  # 999 and 499, of which the latter is passed
    pair.scheduler = DDIMScheduler(clip_sample=False, **betas, **spacing)
    alpha = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).neg().add(1).cumprod(0)
    z, t = pair.encode(pixels(blobs)), 499
    alpha_t = alpha[t]
    noised = (alpha_t.sqrt() * z + (1 - alpha_t).sqrt() * noise(z.shape)).float()
    condition, nothing = pair.conditions(CLASSES)
    times = torch.full((4,), t)
    with torch.no_grad():
        one, other = (pair.noise(noised, times, c) for c in (condition, nothing))
    guided = other + 3.0 * (one - other)
    expected = (noised - (1 - alpha_t).sqrt() * guided) / alpha_t.sqrt()
    with torch.no_grad():
        found = pair.denoised(z, CLASSES, generator(5))
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["stable_diffusion", "dit"])
def test_modes_lead_as_in_mgd3(make: Callable[..., Any], blobs: RealData, name: str) -> None:
    """DDPM (Ho et al. 2020, algorithm 2, with the smaller of its two variances) written out, over
    five steps: the first two are led to the prototypes."""
    pair = make(name, strength=1.0, guidance=3.0, inference_steps=5, mode_guidance=0.8,
                mode_stop=0.4)  # fmt: skip
    modes = pair.encode(pixels(blobs))
    alphas = pair.scheduler.alphas_cumprod.double()
    condition, nothing = pair.conditions(CLASSES)
    stream = generator(5)
    epsilon = torch.randn(modes.shape, generator=stream).double()
    pair.scheduler.set_timesteps(5)
    times = pair.scheduler.timesteps.tolist()
    assert len(times) == 5
    x = alphas[times[0]].sqrt() * modes + (1 - alphas[times[0]]).sqrt() * epsilon
    for number, t in enumerate(times):
        with torch.no_grad():
            one, other = (
                pair.noise(x.float(), torch.full((4,), t), c).double() for c in (condition, nothing)
            )
        error = other + 3.0 * (one - other)
        now, then = alphas[t], alphas[times[number + 1]] if number < 4 else torch.tensor(1.0)
        beta = 1 - now / then
        start = (x - (1 - now).sqrt() * error) / now.sqrt()
        mean = (then.sqrt() * beta * start + (1 - beta).sqrt() * (1 - then) * x) / (1 - now)
        sigma = (beta * (1 - then) / (1 - now)).sqrt()
        drawn = torch.randn(x.shape, generator=stream) if number < 4 else torch.zeros(())
        x = mean + sigma * drawn + (0.8 * sigma * (modes - start) if number < 2 else 0)
    with torch.no_grad():
        found = pair.denoised(modes, CLASSES, generator(5))
    torch.testing.assert_close(found, x.float(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["stable_diffusion", "dit"])
def test_generator_class_and_strength_make_the_images(
    make: Callable[..., Any], blobs: RealData, name: str
) -> None:
    pair = make(name, inference_steps=6)
    state = torch.random.get_rng_state()
    z = pair.encode(pixels(blobs))
    first = decoded(pair, z)
    assert first.shape == (4, 3, 16, 16) and first.min() >= 0 and first.max() <= 1
    assert torch.equal(decoded(pair, z), first)
    assert not torch.equal(decoded(pair, z, seed=6), first)
    others = decoded(pair, z, torch.tensor([0, 2, 2, 2]))
    changed = (others - first).abs().flatten(1).amax(1) > 1e-4
    assert changed.tolist() == [False, False, True, False]
    near = make(name, inference_steps=6, strength=0.17)
    moved = [(each.denoised(z, CLASSES, generator(5)) - z).abs().mean() for each in (near, pair)]
    assert 0 < 2 * moved[0] < moved[1]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_latents_are_shared_by_all_that_encode_alike(
    make: Callable[..., Any], models: SimpleNamespace, blobs: RealData, tmp_path: Path
) -> None:
    def folder(name: str, **changes: Any) -> Path:
        return Latents(blobs, make(name, **changes)).folder

    copy = shutil.copytree(models.stable_diffusion, tmp_path / "copy")
    models_there = SimpleNamespace(vae=str(copy))
    same = [
        folder("vae", resolution=16),
        folder("dit"),
        folder("stable_diffusion"),
        folder("stable_diffusion", strength=0.2, guidance=1, inference_steps=7, prompt="{} b"),
    ]
    pair = VAE(**without_target(options("vae", model=models_there.vae, resolution=16)))
    pair.prepare(blobs, 0)
    assert {Latents(blobs, pair).folder, *same} == {same[0]}
    scaled = json.loads((copy / "vae" / "config.json").read_text()) | {"scaling_factor": 0.5}
    (copy / "vae" / "config.json").write_text(json.dumps(scaled))
    pair.prepare(blobs, 0)
    others = {folder("vae", resolution=32), folder("vae", dtype="bfloat16")}
    assert len({Latents(blobs, pair).folder, *others, same[0]}) == 4


@pytest.fixture
def decode_all(
    make: Callable[..., Any], blobs: RealData, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Tensor, int]]:
    """``decode_all(name, **changes)``: images of DDOQ that are decoded two at a time, and how many
    batches were."""

    def run(name: str, ends_after: int | None = None, **changes: Any) -> tuple[Tensor, int]:
        pair = make(name, inference_steps=4, **changes)
        pair.images_at_once, original, batches = 2, pair.decode, []

        def decode(*args: Any) -> Tensor:
            if len(batches) == ends_after:
                raise KeyboardInterrupt
            batches.append(1)
            return original(*args)

        monkeypatch.setattr(pair, "decode", decode)
        options = composed("method=ddoq").method
        words = ("weights", "decode", "passes", "batch_size", "start_size", "reassignment")
        method = DDOQ(
            data=blobs, network=torch.nn.Identity(), init=Random("default", 0), seed=0, ipc=2,
            synthetic=maker(composed("method=ddoq").synthetic), generative=pair,
            **{word: options[word] for word in words},
        )  # fmt: skip
        return method.tensors()["images"], len(batches)

    return run


@pytest.mark.parametrize("name", ["stable_diffusion", "dit"])
def test_decoding_goes_on_with_the_next_batch(
    decode_all: Callable[..., tuple[Tensor, int]], blobs: RealData, tmp_path: Path, name: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        decode_all(name, ends_after=2)
    resumed, batches = decode_all(name)
    assert batches == 1
    blobs.cache = tmp_path / "another"
    whole, batches = decode_all(name)
    assert batches == 3 and torch.equal(resumed, whole)
    for changes in ({"guidance": 3}, {"strength": 0.5}, {"mode_guidance": 0.1}):
        other, batches = decode_all(name, **changes)
        assert batches == 3 and not torch.equal(other, whole)
    assert decode_all(name, strength=0)[1] == 3 == decode_all(name, strength=0)[1]  # fast: not kept


def test_decoded_images_are_of_the_models_files(
    make: Callable[..., Any],
    models: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = make("dit").decoding
    assert make("dit").decoding == kept != make("dit", class_ids=[1, 0, 5]).decoding
    monkeypatch.setattr(models, "dit", shutil.copytree(models.dit, tmp_path / "copy"))
    assert make("dit").decoding == kept
    (weights,) = (models.dit / "transformer").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert make("dit").decoding != kept


def test_images_are_resized_for_the_model_and_back(
    make: Callable[..., Any], blobs: RealData
) -> None:
    pair = make("vae", resolution=32)
    z = pair.encode(pixels(blobs))
    assert z.shape == (4, 4, 16, 16) and pair.latent_shape == (4, 16, 16)
    assert decoded(pair, z).shape == (4, 3, 16, 16)


def test_half_precision_is_near(make: Callable[..., Any], blobs: RealData) -> None:
    x = pixels(blobs)
    for name, changes in (("vae", {}), ("stable_diffusion", {"inference_steps": 4}),
                          ("dit", {"inference_steps": 4})):  # fmt: skip
        full, half = make(name, **changes), make(name, dtype="bfloat16", **changes)
        z = half.encode(x)
        assert z.dtype == torch.float32
        assert (z - full.encode(x)).abs().mean() < 0.02 * z.std()
        assert (decoded(half, z) - decoded(full, z)).abs().mean() < 0.1


def test_values_that_are_no_numbers_are_refused(make: Callable[..., Any], blobs: RealData) -> None:
    pair = make("vae")
    pair.vae.decoder.conv_out.bias.fill_(torch.nan)
    with pytest.raises(DdistError, match=r"no finite numbers: set generative\.dtype=bfloat16, or"):
        decoded(pair, pair.encode(pixels(blobs)))


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("vae", {"model": None}, "Which model? Set generative.model to its folder, or"),
        ("vae", {"model": "/no/where"}, "There is no folder /no/where, which generative.model"),
        ("vae", {"resolution": 15}, "2, not 15x15 pixels: set generative.resolution=16"),
        ("dit", {"strength": 0.01, "inference_steps": 10}, "0.01 of 10 steps is none: choose 0"),
        ("dit", {"class_ids": [0, 1]}, "class_ids=[0, 1] does not do: name the model's"),
        ("dit", {"class_ids": [0, 1, 6]}, "class_ids=[0, 1, 6] does not do"),
        ("dit", {"resolution": 32}, "of images of 16x16 pixels: leave generative.resolution out"),
        ("stable_diffusion", {"prompt": "a photo"}, "generative.prompt='a photo' has no place for"),
        ("stable_diffusion", {"class_names": ["a"]}, "generative.class_names has to name the 3"),
    ],
)  # fmt: skip
def test_mistakes(
    models: SimpleNamespace, blobs: RealData, name: str, changes: dict[str, Any], said: str
) -> None:
    settings = {"model": str(getattr(models, name)), **changes}
    with pytest.raises(Exception) as caught:
        instantiate(options(name, **settings)).prepare(blobs, 0)
    error = caught.value if isinstance(caught.value, DdistError) else caught.value.__cause__
    assert isinstance(error, DdistError) and said in str(error), error


def test_models_that_are_others_or_damaged(
    models: SimpleNamespace, blobs: RealData, tmp_path: Path
) -> None:
    def error(name: str, model: Path, decode: bool = False) -> str:
        pair = instantiate(options(name, model=str(model), inference_steps=2)
                           if name != "vae" else options(name, model=str(model)))  # fmt: skip
        with pytest.raises(DdistError) as caught:
            pair.prepare(blobs, 0)
            assert decode
            decoded(pair, torch.zeros(4, 4, 8, 8))
        return str(caught.value)

    assert "needs a StableDiffusionPipeline in generative.model, but" in error(
        "stable_diffusion", models.dit
    )
    assert "needs an AutoencoderKL, but" in error("vae", models.dit / "transformer")
    assert "config.json cannot be read (No such file" in error("vae", tmp_path)
    assert "model_index.json cannot be read" in error("dit", models.vae)
    copy = shutil.copytree(models.dit, tmp_path / "copy")
    for part, decode in (("transformer", True), ("vae", False)):
        weights = copy / part / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        assert "cannot be read as a" in error("dit", copy, decode)
    inpainting = shutil.copytree(models.stable_diffusion, tmp_path / "inpainting")
    config = json.loads((inpainting / "unet" / "config.json").read_text()) | {"in_channels": 9}
    (inpainting / "unet" / "config.json").write_text(json.dumps(config))
    assert "takes 9 channels instead of the 4 of a latent" in error("stable_diffusion", inpainting)


def test_a_name_that_the_hub_does_not_give_is_one_sentence(
    blobs: RealData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("vae", "dit"):
        pair = instantiate(options(name, model="some/model"))
        with pytest.raises(DdistError, match="There is no folder some/model, and no model of that"):
            pair.prepare(blobs, 0)


def test_what_is_not_installed(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(DdistError) as caught:
        make("dit")
    assert str(caught.value) == (
        "generative=dit needs the diffusers and transformers libraries, and diffusers is not "
        "installed: pip install ddist[diffusion]."
    )


def test_grey_images_are_refused(models: SimpleNamespace, digits: RealData) -> None:
    pair = VAE(**without_target(options("vae", model=str(models.vae))))
    with pytest.raises(DdistError, match=r"of digits have 1 channel: set dataset\.channels=3"):
        pair.prepare(digits, 0)


NUMBERS = tuple(f"n{n:08d}" for n in range(1000))


def test_names_for_sentences() -> None:
    data = SimpleNamespace(name="mine", class_names=NAMES, num_classes=3)
    assert find_names(None, data) == ["hen", "old friend", "tench"]
    assert find_names(["a", "b", "c"], data) == ["a", "b", "c"]
    data.class_names = NUMBERS[:3]
    with pytest.raises(DdistError, match=r"say nothing to a text encoder: name them in that order"):
        find_names(None, data)
    everything = SimpleNamespace(name="imagenet", class_names=NUMBERS, num_classes=1000)
    assert find_names(None, everything)[217] == "English springer"


def test_numbers_for_dit() -> None:
    named = {"0": "tench, Tinca tinca", "1": "crane", "2": "crane", "3": "old friend", "5": "hen"}
    data = SimpleNamespace(name="mine", class_names=NAMES, num_classes=3)
    assert find_ids(None, data, named, 6) == [5, 3, 0]
    assert find_ids([1, 5, 0], data, named, 6) == [1, 5, 0]
    everything = SimpleNamespace(name="imagenet", class_names=NUMBERS, num_classes=1000)
    assert find_ids(None, everything, {}, 1000) == list(range(1000))
    for names, said in (
        (("hen", "crane", "tench"), "knows several classes called 'crane': name the model's"),
        (NUMBERS[:3], "knows no class called 'n00000000': name the model's"),
    ):
        data.class_names = names
        with pytest.raises(DdistError, match=said):
            find_ids(None, data, named, 6)


@pytest.mark.parametrize("subset", ["imagenette", "imagewoof"])
def test_presets_name_ten_classes_as_the_model_does(subset: str) -> None:
    """DiT's numbers are those of ImageNet's names, which torchvision has in the same order."""
    names = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    one, other = (
        composed(f"experiment=paper/imagenet10_{model}", f"dataset.name={subset}").generative
        for model in ("sd15", "dit")
    )
    assert [names[n] for n in other.class_ids] == list(one.class_names)
    assert list(other.class_ids) == sorted(set(other.class_ids)) and len(other.class_ids) == 10


@pytest.mark.parametrize("name", ["stable_diffusion", "dit"])
def test_a_run_from_images_to_accuracy(
    ddist: Callable[..., Any], models: SimpleNamespace, arrays: Path, name: str
) -> None:
    """Encode, cluster, noise, denoise, decode, weigh, evaluate; then the same without encoding."""
    words = [
        "method=ddoq", f"generative={name}", f"generative.model={getattr(models, name)}", "ipc=3",
        "generative.inference_steps=4", "dataset=arrays", f"dataset.source.file={arrays}",
        "network=mlp", "evaluation.epochs=2", "evaluation.num_networks=2", "task.baseline=false",
        *(["generative.class_ids=[1,0,5]"] if name == "dit" else []),
    ]  # fmt: skip
    done = ddist(*words, "hydra.run.dir=run", DDIST_CACHE="cache")
    assert (done.code, done.err) == (0, ""), done.out + done.err
    results = json.loads((ddist.folder / "run" / "results.json").read_text())
    assert 0 <= results["evaluation"][0]["accuracy_mean"] <= 1
    assert results["figures"]["quantization_error"] > 0
    distilled = DistilledDataset.load(ddist.folder / "run" / "distilled")
    assert distilled.images.shape == (9, 3, 16, 16) and distilled.images.isfinite().all()
    assert distilled.weights is not None and distilled.weights.view(3, 3).mean(1).allclose(
        torch.ones(3)
    )
