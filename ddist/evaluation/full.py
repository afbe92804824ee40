"""What a small set is measured against: training on all images."""

from torch import Tensor, nn

from ddist.data import RealData
from ddist.evaluation.protocol import batches_of
from ddist.init import InitialWeights
from ddist.inner.fit import fit
from ddist.inner.predict import accuracy
from ddist.inner.recipe import TrainingRecipe
from ddist.inner.stacking import num_members
from ddist.seeding import generator
from ddist.settings.ranges import NonNegative
from ddist.stages.progress import SHORT, Progress


def train_on_all(
    data: RealData,
    network: nn.Module,
    init: InitialWeights,
    seed: int,
    *,
    num_networks: int,
    epochs: int,
    batch_size: int,
    lr: NonNegative,
) -> Tensor:
    """Train at most ``num_networks`` held-out networks of ``init`` with Adam on all training images
    and return their test accuracies [K], as fractions; pre-trained networks are fine-tuned."""
    recipe = recipe_of(epochs, batch_size, lr)
    most = init.num_held_out
    start = init.held_out(network, num_networks if most is None else min(num_networks, most))
    with Progress("training on all images", "epochs", epochs, quiet=SHORT) as progress:
        trained = fit(
            network,
            start,
            data.train.x,
            data.train.y,
            recipe,
            generators=[generator(seed, "full", k) for k in range(num_members(start))],
            normalize=data.normalization,
            progress=progress.to,
        )
    return accuracy(network, trained, batches_of(data, data.test)).cpu()


def recipe_of(epochs: int, batch_size: int, lr: float) -> TrainingRecipe:
    """Return the recipe of training on all images."""
    return TrainingRecipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer="adam",
        lr=lr,
        momentum=0.9,
        weight_decay=0.0,
    )
