"""Where images come from: each source is a function ``(request, its own options) -> Arrays``."""

from ddist.data.sources.arrays import arrays
from ddist.data.sources.base import Arrays, Request
from ddist.data.sources.boxes import voc_crops
from ddist.data.sources.cub import cub200
from ddist.data.sources.digits import digits
from ddist.data.sources.folder import folder, tiny_imagenet
from ddist.data.sources.published import published

__all__ = [
    "Arrays",
    "Request",
    "arrays",
    "cub200",
    "digits",
    "folder",
    "published",
    "tiny_imagenet",
    "voc_crops",
]
