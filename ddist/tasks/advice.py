"""What a run says at its end: whether it was worth it, and what to do with the images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddist.evaluation import Evaluator, Replay, Training

BATCH = 128
CHOSEN = ("coreset", "nearest", "herding", "kmeans_embedding")
"""The baselines of real images that were not drawn at random."""


def advice(
    results: Mapping[str, Any], evaluator: Evaluator, num_images: int, folder: Path
) -> list[str]:
    """Return the last lines of a run that left its set in ``folder``, with ``num_images`` to train
    on."""
    ours, baselines = results["evaluation"][0], results["baselines"]
    protocol, how = evaluator.protocol, "To train on them"
    lines = [
        f"    images = ddist.load({str(folder)!r}).as_dataset()  # normalised; classes by number",
        f"    batches = torch.utils.data.DataLoader(images, batch_size={BATCH}, shuffle=True)",
    ]
    if isinstance(protocol, Replay):
        lines = [f"    steps = ddist.load({str(folder)!r}).replay()  # images, labels, step size"]
    if isinstance(protocol, Training):
        passes = protocol.schedule(num_images).passes
        expected = percent(ours)
        if protocol.teacher is not None:
            expected += " where a teacher labels each batch, as in task=evaluate; less by classes"
        how += f", for some {passes} epochs (expect {expected})"
    return [
        *([worth(ours, baselines)] if "random" in baselines else []),
        f"{how}:",
        f"    import ddist{'' if isinstance(protocol, Replay) else ', torch'}",
        *lines,
    ]


def worth(ours: Mapping[str, Any], baselines: Mapping[str, Any]) -> str:
    """Return a sentence that compares a set with as many random real images, and the best of those
    that were chosen."""
    random = baselines["random"]
    both = f"{percent(ours)} beside {percent(random)} of as many random real images"
    chosen = [baselines[name] for name in CHOSEN if name in baselines]
    best = max(chosen, key=lambda row: float(row["accuracy_mean"]), default=random)
    if chosen:
        both += f" and {percent(best)} of chosen ones"
    beaten, beats = clearly(random, ours) or clearly(best, ours), clearly(ours, random)
    if beaten:
        better = "Chosen" if best["accuracy_mean"] > random["accuracy_mean"] else "Random"
        return f"Distilling was not worth it: {both}. {better} real images do better here."
    if beats and not clearly(ours, best):
        return f"Distilling was worth it, and choosing nearly as good: {both}."
    if beats:
        return f"Distilling was worth it: {both}."
    return f"No difference that the networks show: {both}."


def clearly(better: Mapping[str, Any], worse: Mapping[str, Any]) -> bool:
    """Tell whether one row is above the other by more than their intervals."""
    unsure = (better["accuracy_ci95"] or 0.0) + (worse["accuracy_ci95"] or 0.0)
    return bool(better["accuracy_mean"] - worse["accuracy_mean"] > unsure)


def percent(row: Mapping[str, Any]) -> str:
    return f"{100 * row['accuracy_mean']:.1f} %"
