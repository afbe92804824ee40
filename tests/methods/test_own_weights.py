"""A network's own weights as p(theta_0), below a new last layer."""

from typing import Any

import pytest
import torch
from torch.func import functional_call

from ddist.errors import DdistError
from ddist.init import Own
from ddist.networks import MLP


def test_every_draw_is_the_networks_own_weights(digits: Any) -> None:
    network = MLP(10, digits.image_shape, widths=[12], activation="relu")
    own = Own()
    weights = own.draw(network, 3, 0, 7)
    for name, parameter in network.named_parameters():
        expected = torch.zeros_like(parameter) if name.startswith("head.") else parameter.detach()
        torch.testing.assert_close(weights[name], expected.expand(3, *expected.shape))
        assert not weights[name].requires_grad
    for w in weights.values():
        w.add_(1)  # a copy, and no view of the network's
    again = own.held_out(network, 5)
    assert all(len(w) == 1 for w in again.values()) and own.single and own.trained
    x = digits.images(torch.arange(4))
    logits = functional_call(network, {n: w[0] for n, w in again.items()}, (x,))
    torch.testing.assert_close(logits, torch.zeros(4, 10))


@pytest.mark.parametrize("learned", ["head", "all"])
def test_dd_learns_from_published_weights(
    learned: str, make_every: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All weights, or the last layer alone, learn in the few steps; the images have a gradient."""
    timm = pytest.importorskip("timm")
    file = tmp_path / "weights.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(timm.create_model("test_efficientnet").state_dict(), file)
    method = make_every(
        "dd", "network=backbone", "network.model=test_efficientnet", f"network.weights={file}",
        "network.size=32", f"network.learned={learned}", "init=pretrained",
        "method.student_epochs=2", "method.batch_real=8",
    )()  # fmt: skip
    assert isinstance(method.init, Own)
    moved = method.train_student(method.init.draw(method.network, 1))
    start = method.init.draw(method.network, 1)
    changed = {n for n, w in moved.items() if not torch.equal(w, start[n])}
    assert ("head.weight" in changed) and (len(changed) > 10) == (learned == "all")
    loss = sum(w.square().sum() for n, w in moved.items() if n in changed)
    (gradient,) = torch.autograd.grad(loss, method.synthetic.images)
    assert gradient.isfinite().all() and float(gradient.abs().max()) > 0


def test_other_weights_are_refused(make_every: Any) -> None:
    with pytest.raises(DdistError, match=r"init\.weights"):
        make_every("dd", "network=mlp", "init=pretrained", "init.weights=some.pth")
