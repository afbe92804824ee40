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
        how += f", for some {passes} epochs ({percent(ours)} to expect)"
    return [
        *([worth(ours, baselines)] if "random" in baselines else []),
        f"{how}:",
        f"    import ddist{'' if isinstance(protocol, Replay) else ', torch'}",
        *lines,
    ]


def worth(ours: Mapping[str, Any], baselines: Mapping[str, Any]) -> str:
    """Return a sentence that compares a set with as many random real images, and the best of those
    that were chosen."""
    best = baselines["random"]
    both = f"{percent(ours)} beside {percent(best)} of as many random real images"
    better = "Random"
    if chosen := [baselines[name] for name in CHOSEN if name in baselines]:
        chosen_best = max(chosen, key=lambda row: float(row["accuracy_mean"]))
        both += f" and {percent(chosen_best)} of chosen ones"
        if chosen_best["accuracy_mean"] > best["accuracy_mean"]:
            best, better = chosen_best, "Chosen"
    gain = ours["accuracy_mean"] - best["accuracy_mean"]
    unsure = (ours["accuracy_ci95"] or 0.0) + (best["accuracy_ci95"] or 0.0)
    if abs(gain) <= unsure:
        return f"No difference that the networks show: {both}."
    if gain < 0:
        return f"Distilling was not worth it: {both}. {better} real images do better here."
    return f"Distilling was worth it: {both}."


def percent(row: Mapping[str, Any]) -> str:
    return f"{100 * row['accuracy_mean']:.1f} %"
