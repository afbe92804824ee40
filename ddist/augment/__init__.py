"""Differentiable augmentation, the same for the real and the synthetic images of a class."""

from ddist.augment.siamese import Draw, Siamese

__all__ = ["Draw", "Siamese"]
