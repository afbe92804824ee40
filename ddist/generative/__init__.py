"""Encoders and decoders between images and latents, a cache of latents, and their quantization."""

from ddist.generative.autoencoder import Autoencoder
from ddist.generative.base import Pair
from ddist.generative.dit import DiT
from ddist.generative.identity import Identity
from ddist.generative.latents import Latents
from ddist.generative.pca import PCA
from ddist.generative.stable_diffusion import StableDiffusion
from ddist.generative.vae import VAE

__all__ = ["PCA", "VAE", "Autoencoder", "DiT", "Identity", "Latents", "Pair", "StableDiffusion"]
