"""Random numbers: every draw comes from an explicit generator derived from the run's one root seed.

Nothing in ddist reads or reseeds torch's global generator, so a draw depends on its keys alone
(which network, which outer step, which rank) and never on what happened to be drawn before it.
That is what makes a resumed run equal to one that was never interrupted.
"""

import hashlib

import torch


def derive(seed: int, *keys: int | str) -> int:
    """Return a 63-bit seed for the stream named by ``keys`` under the root ``seed``.

    Streams with different keys are independent for all practical purposes: the seed is a hash
    (BLAKE2b) of the root seed and the keys, so neighbouring steps do not give neighbouring seeds.
    """
    text = "/".join([str(int(seed)), *map(str, keys)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *keys: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh generator for the stream named by ``keys`` (see :func:`derive`)."""
    return torch.Generator(device=device).manual_seed(derive(seed, *keys))
