"""Real results: five models trained in minigrad beside PyTorch, from the same initial weights, on the same batches.

    python benchmarks/models.py                  all of them, a few minutes
    python benchmarks/models.py digits-mlp       one alone
    python benchmarks/models.py --write          also the plots and the page, docs/models.md

Every model is written once, in the names that minigrad.nn and torch.nn share. The two take turns step by step, so that
a slow spell of the machine meets both; a time is the median of the steps of one. Without PyTorch minigrad trains alone.
"""

from __future__ import annotations

import math
import statistics
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import bench

PAGE = bench.ROOT / "docs" / "models.md"
SYMBOLS, DELAY, LENGTH, WINDOW = 8, 4, 24, 48

Pair = tuple[Any, Any]
Batches = Callable[[Any], Iterator[Pair]]


# The models: nn is minigrad.nn or torch.nn


def digits_mlp(nn: Any) -> Any:
    """64-128-64-10 with ReLU."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def digits_conv(nn: Any) -> Any:
    """Two convolutions, each with ReLU and pooling, and two linear layers, each after dropout."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip


def recurrent(nn: Any, words: int, width: int, hidden: int) -> Any:
    """Embedding, LSTM, linear: scores (N * T, words) for words (N, T)."""

    class Recurrent(nn.Module):  # type: ignore[misc]  # of the one framework or the other
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(words, width)
            self.lstm = nn.LSTM(width, hidden, batch_first=True)
            self.out = nn.Linear(hidden, words)

        def forward(self, x: Any) -> Any:
            h, _ = self.lstm(self.embed(x))
            return self.out(h.reshape((-1, hidden)))

    return Recurrent()


def transformer(nn: Any, width: int = 32) -> Any:
    """Embedding of symbols and places, two encoder layers that look back only, linear: scores (N * T, SYMBOLS)."""
    import numpy as np

    later = np.triu(np.full((LENGTH, LENGTH), -np.inf, np.float32), 1)
    places = np.arange(LENGTH)
    if nn.__name__.startswith("torch"):
        import torch

        later, places = torch.from_numpy(later), torch.from_numpy(places)

    class Transformer(nn.Module):  # type: ignore[misc]  # of the one framework or the other
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(SYMBOLS, width)
            self.place = nn.Embedding(LENGTH, width)
            self.layers = nn.ModuleList(
                [nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True) for _ in range(2)]
            )
            self.out = nn.Linear(width, SYMBOLS)

        def forward(self, x: Any) -> Any:
            h = self.embed(x) + self.place(places)
            for layer in self.layers:
                h = layer(h, src_mask=later)
            return self.out(h.reshape((-1, width)))

    return Transformer()


# The data: batches of one epoch, and what is held back


def digits(shape: tuple[int, ...], size: int) -> tuple[Batches, Pair]:
    """The digits in batches, shuffled for each epoch; the fifth held back."""
    import numpy as np

    from minigrad.data import load_digits, split

    (x, t), (x_test, t_test) = split(*load_digits(), seed=0)
    x, x_test = x.astype(np.float32).reshape(-1, *shape), x_test.astype(np.float32).reshape(-1, *shape)

    def batches(rng: Any) -> Iterator[Pair]:
        order = rng.permutation(len(x))
        for start in range(0, len(x), size):
            i = order[start : start + size]
            yield x[i], t[i]

    return batches, (x_test, t_test)


def echo(rng: Any, n: int) -> Pair:
    """Symbols (n, LENGTH), and for each place the symbol DELAY places before; -100 where there is none."""
    import numpy as np

    x = rng.integers(0, SYMBOLS, (n, LENGTH))
    t = np.full_like(x, -100)
    t[:, DELAY:] = x[:, :-DELAY]
    return x, t.reshape(-1)


def echoes(steps: int, size: int) -> tuple[Batches, Pair]:
    """An epoch of echo tasks, never the same twice, and a thousand to test on."""
    import numpy as np

    def batches(rng: Any) -> Iterator[Pair]:
        return (echo(rng, size) for _ in range(steps))

    return batches, echo(np.random.default_rng(99), 1000)


def licence() -> Any:
    """Python's licence as numbers, and how many characters there are: text that every installation carries."""
    import numpy as np

    text = Path(sysconfig.get_path("stdlib"), "LICENSE.txt").read_text(encoding="utf-8", errors="replace")
    letters, codes = np.unique(list(text), return_inverse=True)
    return codes.astype(np.int64), len(letters)


def characters(steps: int, size: int) -> tuple[Batches, Pair]:
    """Windows of the licence, and the character that follows each of theirs; the last tenth is held back."""
    import numpy as np

    codes, _ = licence()
    cut = len(codes) * 9 // 10

    def windows(starts: Any) -> Pair:
        rows = codes[starts[:, None] + np.arange(WINDOW + 1)]
        return rows[:, :-1].copy(), rows[:, 1:].reshape(-1)

    def batches(rng: Any) -> Iterator[Pair]:
        return (windows(rng.integers(0, cut - WINDOW - 1, size)) for _ in range(steps))

    return batches, windows(np.arange(cut, len(codes) - WINDOW - 1, WINDOW))


# The jobs


@dataclass
class Job:
    """A model, its data, how it is trained, and what is wanted of it."""

    name: str
    build: Callable[[Any], Any]
    data: Callable[[], tuple[Batches, Pair]]
    epochs: int
    rate: float
    accuracy: float | None = None
    ratio: float | None = None
    agreement: float | None = None


JOBS = [
    Job("digits-mlp", digits_mlp, lambda: digits((64,), 32), 40, 2e-3, accuracy=0.98, ratio=0.8),
    Job("digits-conv", digits_conv, lambda: digits((1, 8, 8), 32), 30, 2e-3, accuracy=0.985, ratio=1.5),
    Job("echo-lstm", lambda nn: recurrent(nn, SYMBOLS, 16, 64), lambda: echoes(50, 64), 16, 1e-2,
        accuracy=0.99, ratio=0.8),
    Job("echo-transformer", transformer, lambda: echoes(50, 64), 16, 3e-3, accuracy=0.99),
    Job("licence-lstm", lambda nn: recurrent(nn, licence()[1], 32, 128), lambda: characters(25, 32), 16, 5e-3,
        ratio=0.8, agreement=0.01),
]  # fmt: skip


class Side:
    """One framework's half of a job: the model, its optimiser, and the times of its steps."""

    def __init__(self, framework: Any, job: Job, tensor: Callable[[Any], Any]) -> None:
        self.model, self.tensor = job.build(framework.nn), tensor
        self.loss = framework.nn.CrossEntropyLoss()
        self.framework, self.rate, self.times = framework, job.rate, []

    def start(self) -> None:
        """The optimiser, once the parameters are as they should be."""
        self.optimizer = self.framework.optim.Adam(self.model.parameters(), lr=self.rate)

    def step(self, x: Any, t: Any) -> float:
        """Forward, backward, Adam; returns the loss."""
        x, t = self.tensor(x), self.tensor(t)
        began = time.perf_counter()
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), t)
        loss.backward()
        self.optimizer.step()
        value = loss.item()
        self.times.append(time.perf_counter() - began)
        return float(value)

    def test(self, x: Any, t: Any) -> tuple[float, float]:
        """(loss, share of the labels that have the highest score) of what was held back."""
        self.model.eval()
        with self.framework.no_grad():
            out = self.model(self.tensor(x))
            loss = self.loss(out, self.tensor(t))
        self.model.train()
        values = out.numpy()
        return float(loss.item()), float((values.argmax(axis=1) == t)[t >= 0].mean())


def sides(job: Job) -> dict[str, Side]:
    """minigrad's half, and PyTorch's with the same initial weights, where it is installed."""
    import minigrad as mg

    mg.manual_seed(0)
    both = {"minigrad": Side(mg, job, lambda x: x)}
    mine = both["minigrad"]
    mine.model.astype("float32")
    if bench.available("torch"):
        import torch

        torch.manual_seed(0)
        theirs = both["PyTorch"] = Side(torch, job, torch.from_numpy)
        theirs.model.load_state_dict({key: torch.from_numpy(a) for key, a in mine.model.state_dict().items()})
    for side in both.values():
        side.start()
    return both


def train(job: Job, quick: bool) -> dict[str, Any]:
    """What a job gives for each side: the losses of all steps, the tests of all epochs, the median time of a step."""
    import numpy as np

    both, (batches, held) = sides(job), job.data()
    rng = np.random.default_rng(1)
    found: dict[str, Any] = {name: {"losses": [], "tests": []} for name in both}
    order = list(both)
    for epoch in range(1, (2 if quick else job.epochs) + 1):
        bench.progress(f"{job.name}: epoch {epoch} of {job.epochs}")
        for side in both.values():
            for group in side.optimizer.param_groups:  # a cosine from the full rate down to 0
                group["lr"] = job.rate * (1 + math.cos(math.pi * (epoch - 1) / job.epochs)) / 2
        for x, t in batches(rng):
            for name in order:
                found[name]["losses"].append(both[name].step(x, t))
            order.append(order.pop(0))
        for name, side in both.items():
            found[name]["tests"].append(side.test(*held))
    for name, side in both.items():
        found[name]["time"] = statistics.median(side.times)
        found[name]["dropout"] = any(getattr(module, "p", 0) > 0 for module in side.model.modules())
        found[name]["parameters"] = sum(int(np.prod(p.shape)) for p in side.model.parameters())
    return found


def disagreement(found: dict[str, Any]) -> float:
    """The largest relative difference of the two losses at any step."""
    pairs = zip(found["minigrad"]["losses"], found["PyTorch"]["losses"], strict=True)
    return max(abs(a - b) / b for a, b in pairs)


def plot(job: Job, found: dict[str, Any], path: Path) -> None:
    """The losses, as means over a fiftieth of the steps, and the tests after every epoch."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), dpi=90, layout="constrained")
    styles = {"minigrad": {"color": "#1f6fb4", "lw": 1.4}, "PyTorch": {"color": "#e08a1e", "lw": 1.4, "ls": "--"}}
    which = 0 if job.accuracy is None else 1
    for name, side in found.items():
        width = max(1, len(side["losses"]) // 50)
        means = np.convolve(side["losses"], np.full(width, 1 / width), "valid")
        left.plot(np.arange(len(means)) + width / 2, means, label=name, **styles[name])
        right.plot(
            range(1, len(side["tests"]) + 1), [test[which] for test in side["tests"]], label=name, **styles[name]
        )
    left.set(yscale="log", xlabel="step", ylabel="training loss", title=job.name)
    right.set(xlabel="epoch", ylabel=("test loss", "test accuracy")[which])
    if job.accuracy is not None:
        right.axhline(job.accuracy, color="grey", lw=0.8, ls=":")
    right.xaxis.get_major_locator().set_params(integer=True)
    right.legend(loc="center right")
    figure.savefig(path)
    plt.close(figure)


def page(report: bench.Report, jobs: list[Job]) -> str:
    """docs/models.md."""
    lines = [
        "# Models trained",
        "",
        "Written by `python benchmarks/models.py --write --threads 1`: each model in minigrad and in PyTorch, from the",
        "same initial weights, on the same batches in float32, with one thread, in turns step by step. Times are given",
        "as the ratio of the medians of a training step: forward, backward and Adam.",
        "",
    ]
    for table in report.content["tables"]:
        lines += [f"| {' | '.join(table['head'])} |", "|---" + "|---:" * (len(table["head"]) - 1) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in table["rows"]] + [""]
    lines += [f"- {w['line']}: {'reached' if w['reached'] else '**not reached**'}" for w in report.content["wanted"]]
    lines += [
        "",
        f"*echo*: symbols come in one by one, and the model has to name the one that came {DELAY} places before; one",
        f"without a memory names one in {SYMBOLS}. *licence*: Python's own licence, and which character comes next.",
        "",
        *[f"![{job.name}: losses and tests](models/{job.name}.png)" for job in jobs],
        "",
        bench.conditions(date.today().isoformat(), bench.machine(), bench.versions()),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Train the models that are asked for, print the table, write the page if that is asked for."""

    def extra(parser: Any) -> None:
        parser.add_argument("jobs", nargs="*", metavar="MODEL", help=", ".join(job.name for job in JOBS))
        parser.add_argument("--write", action="store_true", help="write docs/models.md and its plots")

    chosen = bench.options(__doc__, extra)
    unknown = set(chosen.jobs) - {job.name for job in JOBS}
    if unknown:
        raise SystemExit(f"no model {', '.join(sorted(unknown))}; there are {', '.join(job.name for job in JOBS)}")
    jobs = [job for job in JOBS if not chosen.jobs or job.name in chosen.jobs]
    report = bench.Report("Models trained", chosen)
    rows, results = [], {}
    for job in jobs:
        found = results[job.name] = train(job, chosen.quick)
        mine, theirs = found["minigrad"], found.get("PyTorch")
        loss, accuracy = mine["tests"][-1]
        row = [job.name, f"{mine['parameters']:,}", f"{loss:.4f}", f"{accuracy:.2%}"]
        if theirs:
            row += [f"{theirs['tests'][-1][0]:.4f}", f"{theirs['tests'][-1][1]:.2%}"]
            same = "other masks" if mine["dropout"] else f"{disagreement(found):.1e}"
            row += [same, f"{mine['time'] / theirs['time']:.2f}"]
        rows.append(row)
    head = ["model", "parameters", "test loss", "accuracy"]
    if all("PyTorch" in found for found in results.values()):
        head += ["PyTorch's loss", "accuracy", "largest difference of a loss", "time / PyTorch's"]
    report.table("Training", head, rows)
    print()
    for job in jobs:
        found = results[job.name]
        if job.accuracy is not None:
            report.wanted(f"{job.name}: accuracy", found["minigrad"]["tests"][-1][1], job.accuracy, at_least=True)
        if "PyTorch" in found and job.agreement is not None:
            report.wanted(f"{job.name}: largest difference of a loss", disagreement(found), job.agreement)
        if "PyTorch" in found and job.ratio is not None:
            ratio = found["minigrad"]["time"] / found["PyTorch"]["time"]
            report.wanted(f"{job.name}: time / PyTorch's", ratio, job.ratio)
    if chosen.write:
        PAGE.with_suffix("").mkdir(exist_ok=True)
        for job in jobs:
            plot(job, results[job.name], PAGE.with_suffix("") / f"{job.name}.png")
        PAGE.write_text(page(report, jobs), encoding="utf-8")
    report.close()


if __name__ == "__main__":
    main()
