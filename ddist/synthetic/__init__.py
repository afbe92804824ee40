"""What is learned: modules that own the synthetic images, labels and step sizes."""

from ddist.synthetic.base import SyntheticData
from ddist.synthetic.coded import Coded
from ddist.synthetic.pixel import Pixel
from ddist.synthetic.pyramid import Pyramid
from ddist.synthetic.steps import StepSizes

__all__ = ["Coded", "Pixel", "Pyramid", "StepSizes", "SyntheticData"]
