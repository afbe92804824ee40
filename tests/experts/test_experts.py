"""Experts on the bundled digits (real data, offline): what they are, and what is done only once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.experts import Trajectories
from ddist.experts.store import Store
from ddist.experts.work import spread
from ddist.init.schemes import draw_weights
from ddist.inner.fit import fit
from ddist.networks import MLP, ConvNet, Network, Weights
from ddist.seeding import generator
from ddist.tasks.targets import make
from tests.usual import usual_option

CONF = Path(__file__).parents[2] / "conf"
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> RealData:
    """100 of them, ten of each class."""
    config = usual_option("dataset", "digits")
    folder = tmp_path_factory.mktemp("data")
    data: RealData = make({**config, "subset": 10}, seed=0, root=folder, cache=folder)
    return data.load()


@pytest.fixture
def network() -> MLP:
    return MLP(10, SHAPE, [8], "relu")  # whose experts are trained stacked


def convnet(norm: str = "instance") -> ConvNet:
    """Its experts are trained one after the other on a CPU, on batches above 32."""
    return ConvNet(10, SHAPE, 1, 4, norm=norm, pooling="avg", activation="relu")


@pytest.fixture
def experts(digits: RealData, tmp_path: Path) -> Callable[..., Trajectories]:
    """``experts(name="plain", folder="cache", **changes)``: conf/trajectories/<name>.yaml with
    ``changes``, as a run builds it."""

    def build(name: str = "plain", folder: str = "cache", **changes: Any) -> Trajectories:
        config = OmegaConf.load(CONF / "trajectories" / "plain.yaml")
        config.pop("subset")  # of the source
        config.augment = OmegaConf.load(CONF / "augment" / "dsa.yaml")
        config.augment.flip = False
        if name != "plain":
            config = OmegaConf.merge(config, OmegaConf.load(CONF / "trajectories" / f"{name}.yaml"))
        config.pop("defaults")
        run = {"source": digits, "cache": tmp_path / folder, "seed": 0, "compile": False}
        run |= {key: changes.pop(key) for key in run.keys() & changes.keys()}
        quick = {"num_experts": 3, "batch_size": 40, "lr": 0.1}
        found: Trajectories = make(OmegaConf.merge(config, quick, changes), **run)
        return found

    return build


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of experts at each epoch that is trained."""
    counts: list[int] = []

    def counting(network: Network, weights: Weights, *args: Any, **options: Any) -> Weights:
        counts.append(len(options["generators"]))
        return fit(network, weights, *args, **options)

    monkeypatch.setattr("ddist.experts.experts.fit", counting)
    return counts


def all_of(trajectories: Trajectories, network: Network, epochs: int) -> list[Weights]:
    return [
        trajectories.read(network, k, epoch)
        for k in range(trajectories.num_experts)
        for epoch in range(epochs + 1)
    ]


def same_bits(a: list[Weights], b: list[Weights]) -> bool:
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(torch.equal(x[n], y[n]) for n in x)
        for x, y in zip(a, b, strict=True)
    )


def files(trajectories: Trajectories, network: Network) -> dict[str, tuple[int, bytes]]:
    """When each file was written, and its bytes."""
    folder = trajectories.folder(network)
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*.safetensors")
    }


# -- what an expert is -------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: MLP(10, SHAPE, [8], "relu"), convnet])
def test_an_expert_is_what_a_plain_loop_trains(
    make: Callable[[], Network], digits: RealData, experts: Callable[..., Trajectories]
) -> None:
    trajectories, network = experts(num_experts=12, weight_decay=0.01), make()
    trajectories.prepare(network, 2)
    x, y = digits.normalization(digits.train.x), digits.train.y
    for k in (0, 11):  # of two groups, where there are groups
        student = make()
        start = draw_weights(student, "default", [generator(0, "expert", k, 0)])
        assert same_bits([trajectories.read(network, k, 0)], [{n: w[0] for n, w in start.items()}])
        student.load_state_dict(trajectories.read(network, k, 0))
        sgd = torch.optim.SGD(student.parameters(), lr=0.1, weight_decay=0.01)
        for epoch in (1, 2):
            stream = generator(0, "expert", k, epoch)
            for rows in torch.randperm(len(x), generator=stream).split(40):
                sgd.zero_grad()
                batch = trajectories.augment(x[rows], stream)
                F.cross_entropy(student(batch), y[rows]).backward()
                sgd.step()
            for name, found in trajectories.read(network, k, epoch).items():
                expected = student.get_parameter(name).detach()
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_an_expert_does_not_depend_on_how_many_there_are(
    network: MLP, experts: Callable[..., Trajectories]
) -> None:
    many, one = experts(num_experts=12), experts(num_experts=1, folder="other")
    many.prepare(network, 2)
    one.prepare(network, 2)
    for name, w in one.read(network, 0, 2).items():
        torch.testing.assert_close(w, many.read(network, 0, 2)[name])
    different = [float(many.read(network, k, 2)["head.bias"][0]) for k in range(12)]
    assert len(set(different)) == 12


def test_flat_experts_are_those_of_sharpness_aware_training(
    digits: RealData, network: MLP, experts: Callable[..., Trajectories]
) -> None:
    flat, plain = experts("flat", rho=0.5), experts()
    found, start = flat.read(network, 1, 1), flat.read(network, 1, 0)
    assert same_bits([start], [plain.read(network, 1, 0)])
    expected = fit(
        network,
        {n: w[None] for n, w in start.items()},
        digits.train.x,
        digits.train.y,
        replace(plain.recipe, rho=0.5, alpha=1.0),
        generators=[generator(0, "expert", 1, 1)],
        normalize=digits.normalization,
        augment=flat.augment,
    )
    for name, w in found.items():
        torch.testing.assert_close(w, expected[name][0])
    assert not same_bits([found], [plain.read(network, 1, 1)])


# -- what is done once -------------------------------------------------------------------------


def test_all_is_trained_once_and_then_read(
    network: MLP, experts: Callable[..., Trajectories], trained: list[int]
) -> None:
    experts(num_experts=12).prepare(network, 3)
    assert trained == [10] * 3 + [2] * 3
    again = experts(num_experts=12, shard=1)
    again.prepare(MLP(10, SHAPE, [8], "relu"), 3)
    all_of(again, network, 3)
    assert len(trained) == 6
    assert len(files(again, network)) == 12 * 4


def test_more_epochs_and_experts_are_added(
    network: MLP, experts: Callable[..., Trajectories], trained: list[int]
) -> None:
    experts().prepare(network, 2)
    before = files(experts(), network)
    experts().prepare(network, 4)
    assert trained == [3] * 4
    whole = experts(folder="other")
    whole.prepare(network, 4)
    assert same_bits(all_of(experts(), network, 4), all_of(whole, network, 4))
    experts(num_experts=4).prepare(network, 4)
    after = files(experts(), network)
    assert before.items() <= after.items() and len(after) == 4 * 5


@pytest.mark.parametrize("make", [lambda: MLP(10, SHAPE, [8], "relu"), convnet])
@pytest.mark.parametrize(
    ("dtype", "rho", "repeated"), [("float32", 0.0, 0), ("float32", 0.05, 0), ("bfloat16", 0.0, 1)]
)
def test_killed_it_goes_on_and_ends_with_the_same_bits(
    make: Callable[[], Network],
    dtype: str,
    rho: float,
    repeated: int,
    experts: Callable[..., Trajectories],
    trained: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = make()
    kind = {"dtype": dtype, "rho": rho, "alpha": 1.0}
    whole = experts(**kind, folder="other")
    whole.prepare(network, 3)
    needed = len(trained)
    trained.clear()
    counting = fit_in_use()

    def stopped(*args: Any, **options: Any) -> Weights:
        if len(trained) == 1:  # in the second epoch
            raise KeyboardInterrupt
        return counting(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("ddist.experts.experts.fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            experts(**kind).prepare(network, 3)
    assert not list(experts(**kind).folder(network).rglob("*.partial"))
    experts(**kind).prepare(network, 3)
    assert len(trained) == needed + repeated
    assert same_bits(all_of(experts(**kind), network, 3), all_of(whole, network, 3))


def fit_in_use() -> Callable[..., Weights]:
    from ddist.experts import experts

    found: Callable[..., Weights] = experts.fit
    return found


def test_halves_take_half_the_disk_and_are_the_rounded_weights(
    network: MLP, experts: Callable[..., Trajectories]
) -> None:
    halves, whole = experts(dtype="bfloat16"), experts()
    for each in (halves, whole):
        each.prepare(network, 2)
    rounded = [
        {n: w.bfloat16().float() for n, w in one.items()} for one in all_of(whole, network, 2)
    ]
    assert same_bits(all_of(halves, network, 2), rounded)
    numbers = 9 * sum(p.numel() for p in network.parameters())
    for each, num_bytes in ((halves, 2), (whole, 4)):
        stored = sum(len(content) for _, content in files(each, network).values())
        assert 0 < stored - num_bytes * numbers < 9 * 500  # the headers


# -- damage ------------------------------------------------------------------------------------


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[:-7],
    "empty": lambda content: b"",
    "a bit of the weights": lambda content: flipped(content, len(content) - 9),
    "a bit of a name": lambda content: flipped(content, content.index(b"head.weight")),
    "a bit of the header's length": lambda content: flipped(content, 0),
    "foreign": lambda content: b"x" * len(content),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_damaged_file_is_named_and_retrained_alone(
    damage: str,
    dtype: str,
    network: MLP,
    experts: Callable[..., Trajectories],
    caplog: pytest.LogCaptureFixture,
) -> None:
    trajectories = experts(dtype=dtype)
    trajectories.prepare(network, 3)
    good, weights = files(trajectories, network), all_of(trajectories, network, 3)
    path = trajectories.folder(network) / "0001" / "002.safetensors"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    caplog.clear()  # of what training said of the experts' accuracies
    assert same_bits([trajectories.read(network, 1, 2)], [weights[6]])
    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warning == f"The expert file {path} is damaged; it is trained anew."
    mended = files(trajectories, network)
    assert {name for name in good if good[name][0] != mended[name][0]} == {"0001/002.safetensors"}
    assert mended["0001/002.safetensors"][1] == good["0001/002.safetensors"][1]
    assert same_bits(all_of(trajectories, network, 3), weights)


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: {n: w for n, w in weights.items() if n != "head.bias"},
        lambda weights: weights | {"more": torch.zeros(2)},
        lambda weights: {n.replace("head", "tail"): w for n, w in weights.items()},
    ],
    ids=["one fewer", "one more", "other names"],
)
def test_a_file_of_other_weights_is_damaged(
    change: Callable[[Weights], Weights],
    network: MLP,
    experts: Callable[..., Trajectories],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is whole, as its checksum says, but not what this network needs."""
    trajectories = experts()
    trajectories.prepare(network, 1)
    weights = trajectories.read(network, 1, 1)
    store = Store(trajectories.folder(network), torch.float32, network)
    store.write(1, 1, change(weights))
    assert same_bits([trajectories.read(network, 1, 1)], [weights])
    assert f"The expert file {store.path(1, 1)} is damaged; it is trained anew." in caplog.text


def test_preparing_mends_what_is_truncated_or_gone(
    network: MLP, experts: Callable[..., Trajectories], trained: list[int]
) -> None:
    trajectories = experts()
    trajectories.prepare(network, 3)
    good = files(trajectories, network)
    torn, gone = (trajectories.folder(network) / f"000{k}" for k in (0, 2))
    (torn / "001.safetensors").write_bytes(b"half")
    (gone / "003.safetensors").unlink()
    trained.clear()
    experts().prepare(network, 3)
    assert trained == [3, 3]
    mended = files(trajectories, network)
    assert {n: content for n, (_, content) in mended.items()} == {
        n: content for n, (_, content) in good.items()
    }


def test_what_training_goes_on_from_is_looked_at_too(
    network: MLP,
    experts: Callable[..., Trajectories],
    trained: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    trajectories = experts()
    trajectories.prepare(network, 3)
    path = trajectories.folder(network) / "0001" / "003.safetensors"
    good = files(trajectories, network)
    path.write_bytes(flipped(path.read_bytes(), -9))
    trained.clear()
    whole = experts(folder="other")
    whole.prepare(network, 4)
    trained.clear()
    trajectories.prepare(network, 4)
    assert str(path) in caplog.text
    assert trained == [3, 3]  # the third again, and the fourth
    assert same_bits(all_of(trajectories, network, 4), all_of(whole, network, 4))
    assert {n: c for n, (_, c) in good.items()}.items() <= {
        n: c for n, (_, c) in files(trajectories, network).items()
    }.items()


# -- the disk ----------------------------------------------------------------------------------


def test_a_disk_that_is_too_small_is_refused_before_anything_is_trained(
    network: MLP, experts: Callable[..., Trajectories], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 20_000

    trajectories = experts()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: Usage)
        patch.setattr("ddist.experts.experts.fit", None)
        with pytest.raises(
            DdistError, match=r"need .* kB in .*, but 20\.0 kB are free there: make"
        ):
            trajectories.prepare(network, 3)
    assert not trajectories.cache.exists()
    trajectories.prepare(network, 3)
    with monkeypatch.context() as patch:  # nothing is needed any more
        patch.setattr("shutil.disk_usage", None)
        trajectories.prepare(network, 3)


def test_a_disk_that_is_full_later_is_one_sentence(
    network: MLP, experts: Callable[..., Trajectories], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[:100])
        raise OSError(28, "No space left on device")

    trajectories = experts()
    with monkeypatch.context() as patch:
        patch.setattr("ddist.storage.sharing.write_file", full)
        with pytest.raises(DdistError, match=r"No space left on device; make room or .*paths\.cac"):
            trajectories.prepare(network, 1)
    assert not [p for p in trajectories.cache.rglob("*") if p.is_file() and p.suffix != ".lock"]
    (trajectories.cache / "file").touch()
    with pytest.raises(DdistError, match=r"Not a directory; make room or set paths\.cache"):
        experts(cache=trajectories.cache / "file" / "deeper").prepare(network, 1)


# -- sharing -----------------------------------------------------------------------------------


def test_a_group_that_another_process_holds_is_left_to_it_and_waited_for(
    experts: Callable[..., Trajectories], trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one dies without having done its work."""
    network, trajectories, done = convnet(), experts(), []
    store = trajectories._store(network)
    monkeypatch.setattr("ddist.storage.sharing.PATIENCE", 0.01)
    held = store.claimed(1, 0)
    assert held.__enter__()

    class Watch:
        def __init__(self, *_: str, count: Callable[[], int], shorter: str) -> None:
            self.count = count

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

        def advance(self) -> None:
            done.append(self.count())
            if len(done) == 4:  # both others are complete
                assert not store.missing([0, 2], 2) and len(store.missing([1], 2)) == 3
                held.__exit__(None, None, None)

        def end(self) -> None:
            assert self.count() == 0

    monkeypatch.setattr("ddist.storage.sharing.SharedProgress", Watch)
    trajectories.prepare(network, 2)
    assert done == [5, 4, 3, 2, 1, 0]


def test_shards_start_evenly_and_each_does_all_that_is_left(
    experts: Callable[..., Trajectories], monkeypatch: pytest.MonkeyPatch
) -> None:
    for num in range(1, 40):
        starts = sorted(spread(shard) for shard in range(num))
        gaps = [b - a for a, b in zip(starts, [*starts[1:], 1.0], strict=True)]
        assert starts[0] == 0 and max(gaps) <= 2 * min(gaps)
    network, orders = convnet(), {}
    monkeypatch.setattr("ddist.experts.experts.fit", lambda network, w, *a, **o: w)
    for shard in (None, 0, 1, 2, 7):
        trajectories = experts(num_experts=8, shard=shard, folder=f"{shard}")
        trajectories.prepare(network, 1)
        times = {
            path.stat().st_mtime_ns: int(path.parent.name)
            for path in trajectories.folder(network).rglob("001.safetensors")
        }
        orders[shard] = [times[each] for each in sorted(times)]
    assert orders == {
        None: [0, 1, 2, 3, 4, 5, 6, 7],
        0: [0, 1, 2, 3, 4, 5, 6, 7],
        1: [4, 5, 6, 7, 0, 1, 2, 3],
        2: [2, 3, 4, 5, 6, 7, 0, 1],
        7: [7, 0, 1, 2, 3, 4, 5, 6],
    }


# -- names and mistakes ------------------------------------------------------------------------


def test_the_signature_covers_what_changes_an_expert(
    digits: RealData, network: MLP, experts: Callable[..., Trajectories]
) -> None:
    base = experts().signature(network)
    assert len(base) == 8 and int(base, 16) >= 0
    for same in (
        {"num_experts": 5},
        {"epochs": 7},
        {"shard": 1},
        {"compile": True},
        {"alpha": 1.0},  # without rho
        {"folder": "elsewhere"},
        {"augment": {"strategy": ["color", "crop", "cutout", "scale", "rotate"]}},  # flip is off
    ):
        assert experts(**same).signature(MLP(10, SHAPE, [8], "relu")) == base, same
    others = [
        experts(**change).signature(network)
        for change in (
            {"batch_size": 41},
            {"lr": 0.2},
            {"weight_decay": 0.1},
            {"rho": 0.1},
            {"rho": 0.1, "alpha": 0.5},
            {"dtype": "bfloat16"},
            {"precision": "bf16-mixed"},
            {"seed": 1},
            {"source": digits.limited(9)},
            {"augment": {"strategy": []}},
            {"augment": {"flip": True}},
            {"augment": {"ratio_cutout": 0.4}},
            {"augment": {"brightness": 0.5}},
        )
    ]
    others += [experts().signature(n) for n in (MLP(10, SHAPE, [9], "relu"), convnet())]
    others.append(experts().signature(MLP(10, SHAPE, [8], "tanh")))
    assert len({base, *others}) == 1 + len(others)


def test_reading_does_not_look_at_the_data_again_but_tells_networks_apart(
    digits: RealData,
    network: MLP,
    experts: Callable[..., Trajectories],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trajectories, wider = experts(), MLP(10, SHAPE, [9], "relu")
    for each in (network, wider):
        trajectories.prepare(each, 1)
    with monkeypatch.context() as patch:
        patch.setattr(digits, "fingerprint", None)
        shapes = [
            [w.shape for w in trajectories.read(each, 0, 1).values()]
            for each in (network, wider, network)
        ]
    assert shapes[0] == shapes[2] == [p.shape for p in network.parameters()] != shapes[1]
    assert trajectories.folder(network) != trajectories.folder(wider)
    del each, wider
    assert len(trajectories._stores) == 1  # nothing keeps a network alive


def test_mistakes_are_named(network: MLP, experts: Callable[..., Trajectories]) -> None:
    with pytest.raises(DdistError, match=r"network\.norm=instance"):
        experts().prepare(convnet("batch"), 1)
    with pytest.raises(DdistError, match="cannot be an expert on digits with 10 classes"):
        experts().prepare(MLP(10, (1, 28, 28), [8], "relu"), 1)
    with pytest.raises(DdistError, match=r"5 epochs are needed, but trajectories\.epochs=4: raise"):
        experts(epochs=4).prepare(network, 5)
    with pytest.raises(
        DdistError, match=r"in epoch 1: try a smaller trajectories\.lr \(now 1e\+30"
    ):
        experts(lr=1e30).prepare(network, 2)


def test_as_many_epochs_as_it_is_told(
    network: MLP, experts: Callable[..., Trajectories], trained: list[int]
) -> None:
    experts(epochs=3).prepare(network, 2)
    assert trained == [3] * 3


# -- how good they are -------------------------------------------------------------------------


def test_their_accuracy_is_measured_once_kept_and_said(
    digits: RealData,
    experts: Callable[..., Trajectories],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trajectories, network = experts(num_experts=2, lr=1.0), convnet()
    with caplog.at_level("INFO", "ddist"):
        found = trajectories.prepare(network, 3)
    x, y = digits.normalization(digits.test.x), digits.test.y
    for k in range(2):
        student = convnet()
        student.load_state_dict(trajectories.read(network, k, 3))
        right = (student.eval()(x).argmax(1) == y).float().mean()
        assert found[k] == pytest.approx(float(right))
    percent = [100 * value for value in (min(found), sum(found) / 2, max(found))]
    said = (
        "Test accuracy of 2 experts after 3 epochs: {:.1f} % at least, {:.1f} % on average, {:.1f}"
    )
    assert said.format(*percent) in caplog.text
    with monkeypatch.context() as patch:  # it is read, not measured again
        patch.setattr("ddist.experts.accuracy.measure", None)
        assert experts(num_experts=2, lr=1.0).prepare(convnet(), 3) == found
    notes = sorted(trajectories.folder(network).glob("*/*.json"))
    assert [note.name for note in notes] == ["003.json"] * 2
    notes[0].unlink()  # experts of an earlier version have none
    notes[1].write_text("{")
    assert experts(num_experts=2, lr=1.0).prepare(convnet(), 3) == found


@pytest.mark.parametrize(("lr", "bad"), [(1e-6, True), (1.0, False)])
def test_experts_near_chance_are_warned_about(
    experts: Callable[..., Trajectories], caplog: pytest.LogCaptureFixture, lr: float, bad: bool
) -> None:
    experts(num_experts=2, lr=lr, augment=None).prepare(convnet(), 6)
    warned = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert ("2 of 2 experts are near chance (10" in "".join(warned)) == bad
