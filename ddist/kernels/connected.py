"""The kernels of fully connected networks."""

from torch import Tensor
from torch.linalg import vector_norm

from ddist.kernels.base import Kernel


class FullyConnected(Kernel):
    """Dense layers with an activation after each of the ``depth`` hidden ones (Lee et al. 2018;
    Jacot et al. 2018). With s^2 = weight_std^2 and b^2 = bias_std^2, over d pixels:

        K_0 = s^2 <x, x'> / d + b^2             T_0 = K_0
        K_l = s^2 E[phi(u) phi(v)] + b^2        T_l = K_l + s^2 T_(l-1) E[phi'(u) phi'(v)]

    where (u, v) ~ N(0, K_(l-1)). "nngp" is K_depth, "ntk" T_depth.
    """

    def numbers_per_pair(self, x: Tensor) -> int:
        return 1

    def block(self, x1: Tensor, x2: Tensor) -> Tensor:
        x1, x2 = x1.flatten(1).double(), x2.flatten(1).double()
        scale = self.weight / x1.shape[1]
        # The norm, because it needs no memory for the squares.
        p, q = (scale * vector_norm(x, dim=1).square() + self.bias for x in (x1, x2))
        k = scale * (x1 @ x2.T) + self.bias
        tangent = k
        for _ in range(self.depth):
            values, slopes = self.activation.covariances(k, p[:, None], q[None])
            k = self.weight * values + self.bias
            tangent = k + self.weight * tangent * slopes
            p, q = (self.weight * self.activation.variance(v) + self.bias for v in (p, q))
        return tangent if self.kind == "ntk" else k

    def __str__(self) -> str:
        return f"fc{self.depth} {self.activation_name} {self.kind}"
