"""Images stored as their pixels."""

from torch import Tensor

from ddist.artifact.codes.base import Code, Tensors, check_room


class Pixels(Code):
    """Images as they are: what :class:`ddist.synthetic.Coded` mirrors."""

    name = "pixels"

    def encode(self, images: Tensor, num_bytes: int, sample: Tensor) -> dict[str, Tensor]:
        check_room(num_bytes // images.nbytes, num_bytes / len(images))
        return {"pixels": images}

    @staticmethod
    def decode(codes: Tensors, image_shape: tuple[int, ...]) -> Tensor:
        return codes["pixels"]
