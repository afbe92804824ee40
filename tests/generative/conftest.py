"""Tiny pipelines with random weights, written as diffusers writes the large ones."""

import json
import string
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

NUM_KNOWN = 6
"""Classes of the tiny DiT."""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Folders: ``vae``, ``stable_diffusion``, ``dit``; images of 16 pixels, latents [4, 8, 8]."""
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of what `spread` leaves as it is
        save(diffusers, root)
    return SimpleNamespace(**{p.name: p for p in root.iterdir()})


def save(diffusers: Any, root: Path) -> None:
    vae = spread(
        diffusers.AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            sample_size=16,
        )
    )
    vae.save_pretrained(root / "vae")
    stable_diffusion(diffusers, vae).save_pretrained(root / "stable_diffusion")
    dit(diffusers, vae).save_pretrained(root / "dit")
    index = json.loads((root / "dit" / "model_index.json").read_text())
    names = ["tench, Tinca tinca", "crane", "crane", "old friend", "cock", "hen"]
    index["id2label"] = {str(number): name for number, name in enumerate(names)}
    (root / "dit" / "model_index.json").write_text(json.dumps(index))


def spread(network: Any) -> Any:
    """``network`` with weights that a seed gives and that its inputs pass well."""
    stream = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        if weight.ndim > 1:
            scale = weight[0].numel() ** -0.5
            weight.data = scale * torch.randn(weight.shape, generator=stream)
    return network


def stable_diffusion(diffusers: Any, vae: Any) -> Any:
    import transformers

    letters = [a + end for end in ("", "</w>") for a in string.ascii_lowercase + string.digits]
    words = ["<|startoftext|>", "<|endoftext|>", *letters]
    tokenizer = transformers.CLIPTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=12
    )
    text_config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        max_position_embeddings=12,
        bos_token_id=0,
        eos_token_id=1,
    )
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=spread(transformers.CLIPTextModel(text_config)),
        tokenizer=tokenizer,
        unet=spread(unet),
        # As version 1.5 has it.
        scheduler=diffusers.PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def dit(diffusers: Any, vae: Any) -> Any:
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        num_embeds_ada_norm=NUM_KNOWN,
    )
    return diffusers.DiTPipeline(
        transformer=spread(transformer),
        vae=vae,
        scheduler=diffusers.DDIMScheduler(clip_sample=False),
    )
