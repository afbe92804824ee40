"""Tables of methods for the documents, made of the kept runs: README's, and docs/coverage.md."""

from ddist.artifact.card import markdown_table
from ddist.compare.published import PublishedFigure, published_figures
from ddist.compare.rows import ComparedRow
from ddist.compare.tables import published_percent
from ddist.tasks.compare import Compared
from ddist.tasks.config import conf_dir, option_names
from ddist.tasks.recipes import recipes

DSA, SHORT = "dc2021_dsa", "dc2021_dsa (epochs=300)"
METHODS = {  # paper, arXiv, what learns the images, the protocol that is shown
    "dd": ("Wang 2018", "1811.10959", "back-propagation through training", "replay"),
    "rat": ("Feng 2024", "2311.07025", "the same, through a window of it", DSA),
    "dc": ("Zhao 2021", "2006.05929", "matching gradients, class by class", DSA),
    "dsa": ("Zhao 2021", "2102.08259", "the same, with augmentation", DSA),
    "idc": ("Kim 2022", "2205.14959", "the same, four images in each stored one", SHORT),
    "dm": ("Zhao 2023", "2110.04181", "matching mean features in random networks", DSA),
    "m3d": ("Zhang 2024", "2312.15927", "the same by a kernel: whole distributions", DSA),
    "datadam": ("Sajedi 2023", "2310.00093", "matching where networks look, in each layer", DSA),
    "idm": ("Zhao 2023", "2307.09742", "dm in networks in training, four images in one", DSA),
    "cafe": ("Wang 2022", "2203.01531", "matching features layer by layer", DSA),
    "ncfm": ("Wang 2025", "2502.20653", "matching characteristic functions", SHORT),
    "mtt": ("Cazenavette 2022", "2203.11932", "following experts' trajectories", DSA),
    "tesla": ("Cui 2022", "2211.10586", "the same, a cheaper gradient", DSA),
    "ftd": ("Du 2023", "2211.11004", "the same, experts in flat minima", DSA),
    "ddpp": ("Li 2022", "2209.14609", "the same, without weights that differ", DSA),
    "datm": ("Guo 2024", "2310.05773", "the same, from early to late epochs", DSA),
    "kip": ("Nguyen 2021", "2011.00050", "kernel regression of infinite width", "krr"),
    "frepo": ("Zhou 2022", "2206.00719", "ridge regression on networks' features", "frepo"),
    "clp": ("Peng 2026", "2605.07194", "a linear probe on a published network", "linear_probe"),
    "lgm": ("Cazenavette 2025", "2511.16674", "matching linear heads' gradients", "linear_probe"),
    "ddoq": ("Tan 2026", "2501.07681", "decoding centroids of encoded images", "dc2021"),
    "d4m": ("Su 2024", "2407.15138", "the same with equal weights", "dc2021"),
    "sre2l": ("Yin 2023", "2306.13092", "inverting a teacher", "sre2l"),
    "rded": ("Sun 2024", "2312.03526", "stitching crops that a teacher is surest of", "rded"),
}
SETTINGS = {
    ("ddoq", "mnist"): "decode=decoder, generative=Autoencoder, weights=sqrt",
    ("ddoq", "cifar10"): "decode=decoder",
}
"""The row that is shown where there are several: the method's defaults."""
NO_BREAK = "\u00a0"
LOGGED = {"dd": ("79.7\u00a0(71.2) [79.5\u00a0±\u00a08.1]\u00a0¹", "39\u00a0min")}
"""Figures of early runs that have no kept line: docs/log.md."""
ELSEWHERE = {"linear_probe": "[photographs](docs/backbones.md)"}
"""What stands in place of figures on MNIST, by protocol."""
DATASETS = ("mnist", "fashion_mnist", "svhn", "cifar10", "cifar100", "tiny_imagenet")
START, END = "<!-- methods: python scripts/results.py write -->\n", "<!-- end of methods -->\n"


def methods_table(comparison: Compared) -> str:
    """Return README's table: 100 images of MNIST and of CIFAR-10, ours beside the paper's."""
    lines = []
    for name, (paper, arxiv, idea, protocol) in METHODS.items():
        shown, time = LOGGED.get(name) or own(comparison, "mnist", name, protocol)
        cifar, _ = own(comparison, "cifar10", name, protocol)
        cifar = "" if cifar == shown else cifar
        link = f"[{paper}](https://arxiv.org/abs/{arxiv})".replace(" ", NO_BREAK)
        protocol_name, _, changed = protocol.partition(" ")
        called = f"`{protocol_name}` {changed}".strip()
        lines.append((f"`{name}`", f"{idea}, {link}", shown, time, cifar, called))
    head = ("`method=`", "learns by", "MNIST", "time", "CIFAR-10", "protocol")
    return markdown_table(head, lines)


def own(comparison: Compared, dataset: str, method: str, protocol: str) -> tuple[str, str]:
    """Return ``ours (random) [published]`` with ten images per class, and the time it took."""
    everything = comparison.tables.get(protocol, [])
    place = (dataset, 10)
    here = [row for row in everything if (row.first.dataset, row.first.ipc) == place]
    settings = SETTINGS.get((method, dataset), "")
    rows = [row for row in here if row.first.method == method and settings in row.differences]
    row = max(rows, key=width, default=None)
    published = (row.comparison.published if row else None) or in_papers(method, dataset, 10)
    same = row is None or row.comparison.difference is not None
    known = "" if published is None else f"[{'' if same else '≠ '}{published_percent(published)}]"
    known = known.replace(" ", NO_BREAK)
    if row is None:
        return known or ELSEWHERE.get(protocol, ""), ""
    text = f"**{100 * row.accuracy.mean:.1f}**"
    alike = [r for r in here if r.network == row.network]  # others' random images will do
    others = [r.accuracy for r in alike if r.first.method == "random"]
    others += [r.random for r in alike if r.random is not None]
    random = row.random or next(iter(others), None)
    if random is not None:
        text += f"{NO_BREAK}({100 * random.mean:.1f})"
    return f"{text} {known}".strip(), "" if row.seconds is None else minutes(row.seconds)


def minutes(seconds: float) -> str:
    """Return ``14 min``, or ``7 s`` of less than one, without a break."""
    text = f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
    return text.replace(" ", NO_BREAK)


def width(row: ComparedRow) -> int:
    """Return the width of the network of ``row``; 0 for one that has no single width."""
    number = row.network.rpartition(" ")[2]
    return int(number) if number.isdigit() else 0


def in_papers(method: str, dataset: str, ipc: int) -> PublishedFigure | None:
    """Return what a paper has of the method, under its own protocol, the surest figure first."""
    order = {"seen": 0, "comparison": 1, "memory": 2}
    figures = [
        figure
        for figure in published_figures()
        if (figure.method, figure.dataset, figure.ipc) == (method, dataset, ipc)
    ]
    return min(figures, key=lambda figure: order[figure.known], default=None)


def with_methods(readme: str, comparison: Compared) -> str:
    """Return README.md with today's table of methods."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{methods_table(comparison)}\n{END}{after}"


def coverage(comparison: Compared) -> str:
    """Return docs/coverage.md: which has a recipe, a measured and a published figure."""
    measured = {
        (row.first.method, row.first.dataset, row.first.ipc)
        for rows in comparison.tables.values()
        for row in rows
        if not row.first.objective
    }
    published = {(f.method, f.dataset, f.ipc) for f in published_figures()}
    written = {(method, dataset) for _, method, dataset, _ in recipes(conf_dir() / "recipe")}
    lines = []
    for method in sorted(option_names("method")):
        cells = []
        for dataset in DATASETS:
            marks = "R" if (method, dataset) in written else ""
            for letter, known in (("M", measured), ("P", published)):
                ipcs = [str(i) for i in (1, 10, 50) if (method, dataset, i) in known]
                marks += f" {letter}{'·'.join(ipcs)}" if ipcs else ""
            cells.append(marks.strip())
        lines.append((f"`{method}`", *cells))
    return COVERAGE + markdown_table(("method", *DATASETS), lines)


COVERAGE = """# Coverage

<!-- Written by `python scripts/results.py write`: do not edit. -->

What is there for each method and dataset: `R` a recipe with the paper's settings (`conf/recipe`),
`M` a figure that was measured here ([results.md](results.md)), `P` a published figure, each with
its images per class. An empty cell works too: settings for any data are used there. Figures of
folders (ImageNet, ImageNette, ImageWoof) are in `ddist/compare/published.yaml`.

"""
