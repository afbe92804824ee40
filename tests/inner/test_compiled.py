"""torch.compile: the same numbers, no noise, and a way on where it does not work."""

import logging
import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ddist.init import Random
from ddist.inner import compiled as module
from ddist.inner import predict as predict_module
from ddist.inner.compiled import compiled, pays, values_per_image
from ddist.inner.predict import accuracy, predict
from ddist.networks import MLP, ConvNet
from ddist.seeding import generator

pytestmark = pytest.mark.slow

SHAPE = (1, 8, 8)


def tiny() -> ConvNet:
    return ConvNet(3, SHAPE, depth=1, width=2, norm="instance", pooling="avg", activation="relu")


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_prediction_is_the_eager_one(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    network = tiny()
    weights = Random("default", 0).draw(network, 2)
    x = torch.randn(300, *SHAPE, generator=generator(0))  # two chunks, one of them padded
    y = torch.arange(300) % 3
    with caplog.at_level(logging.INFO):
        fast = predict(network, weights, x, compiled=True)
        torch.testing.assert_close(fast, predict(network, weights, x), rtol=1e-4, atol=1e-5)
        right = accuracy(network, weights, [(x, y)], compiled=True)
        torch.testing.assert_close(right, accuracy(network, weights, [(x, y)]), rtol=0, atol=0.01)
    assert [r.getMessage() for r in caplog.records if r.name.startswith("ddist")] == [
        "Compiling; this takes about half a minute."
    ]
    assert capfd.readouterr().err == ""


def test_where_it_cannot_work_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(function: object, **options: object) -> object:
        def fail(*args: object) -> None:
            raise RuntimeError("InvalidCxxCompiler: none found\nand much more")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    double = compiled(lambda x: 2 * x, worthwhile=True)
    with caplog.at_level(logging.WARNING):
        assert [double(torch.ones(1)).item() for _ in range(3)] == [2.0] * 3
    (record,) = caplog.records
    assert "does not work here (InvalidCxxCompiler: none found): going on" in record.getMessage()

    def mistaken(x: Tensor) -> Tensor:
        raise ValueError("of the function itself")

    with pytest.raises(ValueError, match="of the function itself"):
        compiled(mistaken, worthwhile=True)(torch.ones(1))


def test_every_torch_is_given_the_arguments_that_it_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch before 2.15 takes no number of shapes: its own limit is raised during the call."""
    seen: list[tuple[dict[str, object], int]] = []

    def remember(
        function: Callable[..., Tensor], options: dict[str, object]
    ) -> Callable[..., Tensor]:
        def call(x: Tensor) -> Tensor:
            seen.append((options, torch._dynamo.config.recompile_limit))
            return function(x)

        return call

    def old(model: Callable[..., Tensor], *, dynamic: bool | None = None) -> Callable[..., Tensor]:
        return remember(model, {"dynamic": dynamic})

    def new(
        model: Callable[..., Tensor],
        *,
        dynamic: bool | None = None,
        recompile_limit: int | None = None,
        isolate_recompiles: bool = False,
    ) -> Callable[..., Tensor]:
        options = {"recompile_limit": recompile_limit, "isolate_recompiles": isolate_recompiles}
        return remember(model, {"dynamic": dynamic, **options})

    before = torch._dynamo.config.recompile_limit
    for stand_in in (old, new):
        monkeypatch.setattr(torch, "compile", stand_in)
        assert compiled(lambda x: 2 * x, worthwhile=True)(torch.ones(1)) == 2
    limits = {"recompile_limit": 64, "isolate_recompiles": True}
    assert seen == [({"dynamic": False}, 64), ({"dynamic": False, **limits}, before)]
    assert torch._dynamo.config.recompile_limit == before != 64


def test_what_is_not_worthwhile_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(x: Tensor) -> Tensor:
        return x

    assert compiled(plain, worthwhile=False) is plain
    monkeypatch.setattr(predict_module, "_compiled_forward", lambda: pytest.fail("compiled"))
    network = MLP(3, SHAPE, [4], "relu")
    predict(network, Random("default", 0).draw(network, 1), torch.zeros(2, *SHAPE))


def test_auto_counts_what_can_be_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = tiny(), torch.zeros(1, *SHAPE, dtype=torch.uint8)
    network.train()
    assert values_per_image(network, x) == 2 * 64 + 2 * 64 + 2 * 16  # norm, activation, pooling
    assert network.training and not network.body._forward_hooks
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    enough = module.COMPILE_SECONDS / module.SAVED_PER_VALUE / 288
    assert not pays("auto", network, x, int(0.9 * enough))
    assert pays("auto", network, x, int(1.1 * enough))
    assert pays(True, network, x, 1) and not pays(False, network, x, 10**12)
    assert not pays("auto", network, x.to("meta"), 10**12)  # nothing is known of accelerators
