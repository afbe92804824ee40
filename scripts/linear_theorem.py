"""How many distilled samples does one step of gradient descent need? (Wang et al. 2018, §3.3)

A linear model with D features, one step from theta_0. The paper's theorem: the step reaches the
optimum from every theta_0 if and only if there are M >= D distilled samples. This prints, for
M = 1 .. D + 1 and starts theta* + u with u ~ N(0, I), what is left of the loss:

  start         before the step
  learned       after a step on M samples that Adam learned through ddist's own inner loop
  construction  after a step on the closed form: sqrt(M / eta) x orthonormal columns for M >= D;
                for M < D the same in the M steepest directions of the real data's loss
  bound         what no M samples can beat (Eckart & Young)

    python scripts/linear_theorem.py --features 8
"""

import argparse
from dataclasses import dataclass
from math import nan, sqrt
from pathlib import Path

import matplotlib
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ddist.inner.steps import Batch, Weights, sgd, stacked
from ddist.inner.unroll import unroll
from ddist.seeding import generator

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NUM_REAL = 200


@dataclass(frozen=True)
class Problem:
    """Real data d [N, D], their optimum theta* [D] and curvature d'd/N [D, D]; one step's size."""

    optimum: Tensor
    curvature: Tensor
    eta: float

    def excess(self, theta: Tensor) -> Tensor:
        """Loss above the optimum's, of each theta [K, D]: a quadratic."""
        away = theta - self.optimum
        return ((away @ self.curvature) * away).sum(1) / 2


def main() -> None:
    options = arguments()
    torch.set_default_dtype(torch.float64)
    problem = make_problem(options.features, options.eta, options.seed)
    fresh = problem.optimum + randn(options.seed, "fresh", 100_000, options.features)
    rows = [
        measure(problem, m, fresh, options.adam_steps, options.seed)
        for m in range(1, options.features + 2)
    ]
    start = problem.excess(fresh)
    Console().print(table(rows, start, options.features))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plot(rows, float(start.mean()), options.features, options.out)
    print(f"The plot: {options.out}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=int, default=8, help="D (default: 8)")
    parser.add_argument("--eta", type=float, default=0.1, help="size of the step (default: 0.1)")
    parser.add_argument("--adam-steps", type=int, default=500, help="outer steps (default: 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("outputs/linear_theorem.png"))
    return parser.parse_args()


def randn(seed: int, stream: str, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed, "linear_theorem", stream))


def make_problem(features: int, eta: float, seed: int) -> Problem:
    """Real data whose features have scales from 1 down to 1/2, and noisy targets."""
    d = randn(seed, "real", NUM_REAL, features) * torch.linspace(1, 0.5, features)
    t = d @ randn(seed, "truth", features) + randn(seed, "noise", NUM_REAL)
    optimum = torch.linalg.lstsq(d, t[:, None]).solution[:, 0]
    return Problem(optimum, d.T @ d / NUM_REAL, eta)


def measure(
    problem: Problem, m: int, fresh: Tensor, adam_steps: int, seed: int
) -> dict[str, float]:
    """Mean and worst excess loss over the fresh starts, for each way to choose m samples."""
    found = {"m": float(m), "bound": bound(problem, m)}
    ways = {"learned": learn(problem, m, adam_steps, seed), "construction": construct(problem, m)}
    for way, samples in ways.items():
        with torch.no_grad():
            excess = problem.excess(one_step(problem, fresh, samples))
        found |= {way: float(excess.mean()), f"{way} worst": float(excess.max())}
    return found


def one_step(problem: Problem, theta: Tensor, samples: Batch) -> Tensor:
    """theta_1 of each theta_0 [K, D], by the inner loop that every unrolled method uses."""
    eta = torch.tensor(problem.eta)
    return unroll(sgd(stacked(quadratic)), {"theta": theta}, [samples], [eta])["theta"]


def quadratic(weights: Weights, batch: Batch) -> Tensor:
    """||d theta - t||^2 / 2M."""
    d, t = batch
    return (d @ weights["theta"] - t).square().mean() / 2


def learn(problem: Problem, m: int, adam_steps: int, seed: int) -> Batch:
    """m samples (d [m, D], t [m]) learned as DD learns images."""
    features = len(problem.optimum)
    # +-sqrt(D) e_i have mean 0 and covariance I: a quadratic's mean over them is its exact mean.
    corners = sqrt(features) * torch.cat([torch.eye(features), -torch.eye(features)])
    starts = problem.optimum + corners
    d = randn(seed, f"images {m}", m, features).requires_grad_()
    t = randn(seed, f"targets {m}", m).requires_grad_()
    adam = torch.optim.Adam([d, t], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, adam_steps)
    for _ in range(adam_steps):
        adam.zero_grad()
        problem.excess(one_step(problem, starts, (d, t))).mean().backward()
        adam.step()
        schedule.step()
    return d.detach(), t.detach()


def construct(problem: Problem, m: int) -> Batch:
    """The paper's sufficient samples; with m < D along the m steepest directions only."""
    features = len(problem.optimum)
    steepest = torch.linalg.eigh(problem.curvature).eigenvectors.flip(1)[:, : min(m, features)]
    columns = torch.linalg.qr(torch.randn(m, m, generator=generator(0, "rotation"))).Q
    d = sqrt(m / problem.eta) * columns[:, : steepest.shape[1]] @ steepest.T
    return d, d @ problem.optimum


def bound(problem: Problem, m: int) -> float:
    """theta_1 - theta* = (I - B) u + const with B of rank at most m, so the mean excess loss is at
    least half the sum of the D - m smallest eigenvalues of the curvature."""
    features = len(problem.optimum)
    return float(torch.linalg.eigvalsh(problem.curvature)[: max(0, features - m)].sum() / 2)


def table(rows: list[dict[str, float]], start: Tensor, features: int) -> Table:
    shown = Table(
        title=f"Excess loss after one step, D = {features}",
        caption=f"mean (worst) of {len(start):,} starts\nbefore: {start.mean():.3g} "
        f"({start.max():.3g})",
    )
    for column in ("M", "bound", "construction", "learned"):
        shown.add_column(column, justify="right")
    for row in rows:
        cells = (f"{row[w]:.3g} ({row[w + ' worst']:.3g})" for w in ("construction", "learned"))
        shown.add_row(f"{row['m']:.0f}", f"{row['bound']:.3g}", *cells)
    return shown


def plot(rows: list[dict[str, float]], start: float, features: int, out: Path) -> None:
    """The same means twice: how the loss falls up to M = D, and that it is exactly 0 from there."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    m = [int(row["m"]) for row in rows]
    for axes in panels:
        axes.axhline(start, color="grey", linewidth=0.8, label="before the step")
        axes.axvline(features, color="grey", linestyle=":", linewidth=0.8)
        axes.plot(m, [row["construction"] for row in rows], "s--", label="construction", alpha=0.8)
        axes.plot(m, [row["learned"] for row in rows], "o-", label="learned", alpha=0.8)
        below = [row["bound"] if row["bound"] > 0 else nan for row in rows]
        axes.plot(m, below, "k:", label="no M samples can do better")
        axes.set(xlabel="distilled samples M", xticks=m, ylabel="mean excess loss")
    panels[0].set_ylim(0, 1.1 * start)
    panels[1].set(yscale="log", ylim=(1e-33, 1e3))
    panels[1].legend(loc="center left")
    panels[1].text(features, 1e-32, "M = D ", ha="right", color="grey")
    figure.suptitle(f"One step of gradient descent, from random starts, on {features} features")
    figure.savefig(out, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
