"""Memory: what forward and backward of a deep network take at their peak, and what each op keeps for its rule.

The network has layers of 512 (ReLU or sigmoid, with biases) and float32; its parameters are there before the measuring
begins, their gradients are not. Each contestant runs in a process of its own: the peak is that of the resident size,
less the size before; of tracemalloc, which knows NumPy's arrays only, in another process. With checkpoint the layers
are taken in blocks of about the square root of their number. Times are measured in one process, the contestants in
turn.
What an op keeps is every distinct array that backward would find, its inputs among them but no parameters, in units
of its input x; an array that the next op keeps too is counted for both.
Wanted: no op keeps more than PyTorch's; a peak no higher than PyTorch's.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import bench

NETWORKS = [(50, 512), (100, 512), (50, 2048)]  # layers and batch
ACTIVATIONS = ["relu", "sigmoid"]
CONTESTANTS = ["minigrad", "minigrad, checkpoint", "PyTorch", "PyTorch, checkpoint"]


def deep_network(contestant: str, activation: str, layers: int, batch: int, width: int = 512) -> bench.Step:
    """One forward and backward pass of the contestant's network."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, width), np.float32)
    weights = [rng.standard_normal((width, width), np.float32) for _ in range(layers)]
    for weight in weights:
        weight *= 1.4 / width**0.5
    size = round(layers**0.5)
    starts = range(0, layers, size) if "checkpoint" in contestant else [0]
    if contestant.startswith("minigrad"):
        import minigrad as mg

        act = getattr(mg, activation)
        parameters: list[Any] = [
            (mg.from_numpy(W), mg.Tensor(np.zeros(width, np.float32), requires_grad=True)) for W in weights
        ]
        for W, _ in parameters:
            W.requires_grad = True
        given, linear, checkpoint = mg.Tensor(x), mg.linear, getattr(mg, "checkpoint", None)
    else:
        import torch
        from torch.utils import checkpoint as torch_checkpoint

        torch.manual_seed(0)
        act = getattr(torch, activation)
        parameters = [(torch.from_numpy(W).requires_grad_(), torch.zeros(width, requires_grad=True)) for W in weights]
        given, linear = torch.from_numpy(x), torch.nn.functional.linear

        def checkpoint(f: Any, h: Any) -> Any:
            return torch_checkpoint.checkpoint(f, h, use_reentrant=False)

    def block(start: int, stop: int) -> Callable[[Any], Any]:
        def layers_from_start(h: Any) -> Any:
            for W, b in parameters[start:stop]:
                h = act(linear(h, W, b))
            return h

        return layers_from_start

    blocks = [block(start, start + size if len(starts) > 1 else layers) for start in starts]

    def step() -> None:
        h = given
        for f in blocks:
            h = checkpoint(f, h) if "checkpoint" in contestant else f(h)
        h.sum().backward()
        for W, b in parameters:
            W.grad = b.grad = None

    return step


def resident() -> int:
    """Bytes of this process in memory."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_resident()


def peak_resident() -> int:
    """Most bytes of this process in memory, since the peak was forgotten or the process began."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Let the peak be what it is now, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def measure(spec: dict[str, Any]) -> None:
    """Print what three steps of one contestant take, as JSON: peak bytes, resident or of tracemalloc."""
    step = deep_network(spec["contestant"], spec["activation"], spec["layers"], spec["batch"])
    deep_network(spec["contestant"], spec["activation"], 4, 16, width=16)()  # what is loaded at the first use
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what has been freed goes back to the system, and is not reused unseen
    if spec["traced"]:
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        step()
        peak = tracemalloc.get_traced_memory()[1] - before
    else:
        forget_peak()
        before = resident()
        for _ in range(3):
            step()
        peak = peak_resident() - before
    print(json.dumps(peak))


def apart(contestant: str, activation: str, layers: int, batch: int, *, traced: bool = False) -> float:
    """The peak of one contestant, measured in a process of its own."""
    bench.progress(f"{contestant}: {layers} layers, batch {batch}, {activation}")
    spec = {"contestant": contestant, "activation": activation, "layers": layers, "batch": batch, "traced": traced}
    run = subprocess.run(
        [sys.executable, __file__, "--one", json.dumps(spec)], capture_output=True, text=True, check=True
    )
    return float(json.loads(run.stdout.splitlines()[-1]))


def kept_by_minigrad(t: Any, parameters: list[Any]) -> float:
    """Bytes of the distinct arrays that the graph of t keeps."""
    from minigrad.tape import ancestors

    def arrays(value: Any) -> list[Any]:
        return [a for v in value for a in arrays(v)] if isinstance(value, tuple) else [value]

    owners = {}
    without = {id(owner(p.data)) for p in parameters}
    for node in ancestors([t._node]):
        for value in arrays((*node.saved, *(getattr(node, "inputs", None) or ()))):
            if hasattr(value, "nbytes"):
                a = owner(value)
                if id(a) not in without:
                    owners[id(a)] = a
    return sum(a.nbytes for a in owners.values())


def owner(a: Any) -> Any:
    """The array whose memory a looks at."""
    while getattr(a, "base", None) is not None and hasattr(a.base, "nbytes"):
        a = a.base
    return a


def kept_by_torch(f: Callable[[], Any], parameters: list[Any]) -> float:
    """Bytes of the distinct storages that f's graph keeps."""
    import torch

    found = {}
    without = {p.untyped_storage().data_ptr() for p in parameters}

    def pack(t: Any) -> Any:
        storage = t.untyped_storage()
        if storage.data_ptr() not in without:
            found[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = f()
    del out
    return sum(found.values())


def ops() -> dict[str, tuple[tuple[int, ...], list[tuple[int, ...]], Callable[..., Any], Callable[..., Any] | None]]:
    """By name: the shape of x, the shapes of parameters, and the op on these, in minigrad and in PyTorch."""
    import numpy as np

    import minigrad as mg

    torch = bench.available("torch")
    F: Any = torch.nn.functional if torch else None
    n, k = 256, 128
    labels = np.arange(n) % k
    target = np.random.default_rng(0).random((n, k), np.float32)
    mask = target > 0.5
    t_labels, t_target, t_mask = (torch.from_numpy(a) for a in (labels, target, mask)) if torch else (None,) * 3
    flat, images, sequence = (n, k), (8, 16, 28, 28), (8, 32, 64)
    found: dict[str, Any] = {}

    def add(name: str, ours: Any, theirs: Any, x: tuple[int, ...] = flat, *parameters: tuple[int, ...]) -> None:
        found[name] = x, list(parameters), ours, theirs

    both = {
        "relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "exp": "exp", "log": "log", "sqrt": "sqrt",
        "sin": "sin", "square": "square", "absolute": "abs", "negative": "neg", "erf": "erf", "log1p": "log1p",
        "expm1": "expm1", "arctan": "arctan", "sum": "sum", "mean": "mean", "max": "max", "var": "var", "std": "std",
        "norm": "norm", "prod": "prod",
    }  # fmt: skip
    for ours, theirs in both.items():
        add(ours, getattr(mg, ours), getattr(torch, theirs, None))
    for name in "gelu", "silu", "softplus", "leaky_relu":
        add(name, getattr(mg, name), getattr(F, name, None))
    add("log_sigmoid", mg.log_sigmoid, getattr(F, "logsigmoid", None))
    add("softmax", mg.softmax, lambda x: F.softmax(x, -1))
    add("log_softmax", mg.log_softmax, lambda x: F.log_softmax(x, -1))
    add("logsumexp", lambda x: mg.logsumexp(x, -1), lambda x: torch.logsumexp(x, -1))
    add("max, axis", lambda x: mg.max(x, -1), lambda x: torch.amax(x, -1))
    add("cumsum", lambda x: mg.cumsum(x, -1), lambda x: torch.cumsum(x, -1))
    add("x + b", mg.add, lambda x, b: x + b, flat, (k,))
    add("x * b", mg.multiply, lambda x, b: x * b, flat, (k,))
    add("x / b", mg.divide, lambda x, b: x / b, flat, (k,))
    add("x * 2", lambda x: x * 2.0, lambda x: x * 2.0)
    add("x**3", lambda x: x**3, lambda x: x**3)
    add("maximum", mg.maximum, lambda x, b: torch.maximum(x, b), flat, flat)
    add("clip", lambda x: mg.clip(x, -1, 1), lambda x: torch.clamp(x, -1, 1))
    add("where", lambda x: mg.where(mask, x, 0.0), lambda x: torch.where(t_mask, x, 0.0))
    add("x[1:, ::2]", lambda x: x[1:, ::2], lambda x: x[1:, ::2])
    add("x[indices]", lambda x: x[labels], lambda x: x[t_labels])
    add("reshape", lambda x: x.reshape(-1), lambda x: x.reshape(-1))
    add("transpose", lambda x: x.T, lambda x: x.T)
    add("concatenate", lambda x: mg.concatenate([x, x]), lambda x: torch.cat([x, x]))
    add("matmul", mg.matmul, lambda x, W: x @ W, flat, (k, k))
    add("linear", mg.linear, F.linear, flat, (k, k), (k,))
    add("softmax_cross_entropy", lambda x: mg.softmax_cross_entropy(x, labels), lambda x: F.cross_entropy(x, t_labels))
    add(
        "sigmoid_binary_cross_entropy",
        lambda x: mg.sigmoid_binary_cross_entropy(x, target),
        lambda x: F.binary_cross_entropy_with_logits(x, t_target),
    )
    add("mean squared error", lambda x: mg.mean((x - target) ** 2), lambda x: F.mse_loss(x, t_target))
    add(
        "layer_norm", lambda x, W, b: mg.layer_norm(x, k, W, b), lambda x, W, b: F.layer_norm(x, (k,), W, b),
        flat, (k,), (k,),
    )  # fmt: skip
    add("rms_norm", lambda x, W: mg.rms_norm(x, k, W), lambda x, W: F.rms_norm(x, (k,), W), flat, (k,))
    add("batch_norm", mg.batch_norm, lambda x, W, b: F.batch_norm(x, None, None, W, b, True), images, (16,), (16,))
    dropout = mg.nn.Dropout(0.5)
    add("dropout", dropout, lambda x: F.dropout(x, 0.5, True))
    add(
        "conv2d", lambda x, W, b: mg.conv2d(x, W, b, padding=1), lambda x, W, b: F.conv2d(x, W, b, padding=1),
        images, (16, 16, 3, 3), (16,),
    )  # fmt: skip
    add("max_pool2d", lambda x: mg.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2), images)
    add("avg_pool2d", lambda x: mg.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), images)
    add(
        "attention", lambda x: mg.scaled_dot_product_attention(x, x, x),
        lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None]), sequence,
    )  # fmt: skip
    for name in "relu", "sigmoid", "tanh", "gelu":
        ours = getattr(mg, name)
        theirs = getattr(F, name, None) or getattr(torch, name, None)

        def chain(x: Any, *parameters: Any, act: Any = ours) -> Any:
            for W, b in zip(parameters[::2], parameters[1::2], strict=True):
                x = act(mg.linear(x, W, b))
            return x

        def torch_chain(x: Any, *parameters: Any, act: Any = theirs) -> Any:
            for W, b in zip(parameters[::2], parameters[1::2], strict=True):
                x = act(F.linear(x, W, b))
            return x

        add(f"4 x linear, {name}", chain, torch_chain, flat, *[(k, k), (k,)] * 4)
    add(
        "conv2d, batch_norm, relu",
        lambda x, W, g, b: mg.relu(mg.batch_norm(mg.conv2d(x, W, padding=1), g, b)),
        lambda x, W, g, b: F.relu(F.batch_norm(F.conv2d(x, W, padding=1), None, None, g, b, True)),
        images, (16, 16, 3, 3), (16,), (16,),
    )  # fmt: skip
    return found


def table_of_ops(report: bench.Report) -> None:
    """What each op keeps, and where that is more than PyTorch's."""
    import numpy as np

    import minigrad as mg

    torch = bench.available("torch")
    rng, rows, more = np.random.default_rng(0), [], []
    for name, (shape, shapes, ours, theirs) in ops().items():
        arrays = [np.abs(rng.standard_normal(s, np.float32)) + np.float32(0.1) for s in (shape, *shapes)]
        x, *parameters = (mg.Tensor(a, requires_grad=True) for a in arrays)
        got = kept_by_minigrad(ours(x, *parameters), parameters) / arrays[0].nbytes
        wanted = None
        if torch:
            tx, *tparameters = (torch.from_numpy(a).requires_grad_() for a in arrays)
            wanted = kept_by_torch(lambda f=theirs, x=tx, p=tparameters: f(x, *p), tparameters) / arrays[0].nbytes
            if got > wanted + 0.02:  # some rows' statistics are neither here nor there
                more.append(f"{name} ({got:.2f}, {wanted:.2f})")
        rows.append((name, f"{got:.2f}", "" if wanted is None else f"{wanted:.2f}"))
    report.table("Kept for backward, in units of x", ("", "minigrad", "PyTorch"), rows)
    report.note(f"More than PyTorch: {', '.join(more) or 'none'}")
    report.wanted("ops that keep more than PyTorch's", len(more), 0)


def table_of_peaks(report: bench.Report, activation: str, networks: list[tuple[int, int]], who: list[str]) -> None:
    """Peak memory of each contestant, in MB and over PyTorch's, for networks of so many layers and such a batch."""
    rows, ours = [], [name for name in who if name.startswith("minigrad")]
    for layers, batch in networks:
        peaks = {name: apart(name, activation, layers, batch) for name in who}
        traced = {name: apart(name, activation, layers, batch, traced=True) for name in ours}
        for name, peak in peaks.items():
            ratio = f"{peak / peaks['PyTorch']:.2f}" if "PyTorch" in peaks else ""
            arrays = f"{traced[name] / 2**20:.0f}" if name in traced else ""
            rows.append((f"{layers} layers, batch {batch}: {name}", f"{peak / 2**20:.0f}", arrays, ratio))
        if "PyTorch" in peaks:
            what = f"peak of {layers} layers, batch {batch}, {activation}, over PyTorch's"
            report.wanted(what, peaks["minigrad"] / peaks["PyTorch"], 1.0)
    report.table(f"Peak in MB, {activation}", ("", "resident", "arrays", "x PyTorch"), rows)


def main() -> None:
    """Measure everything, or with --one a single contestant."""

    def extra(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--one", metavar="JSON", help="measure one contestant and print its peak")

    chosen = bench.options(__doc__, extra)
    if chosen.one:
        measure(json.loads(chosen.one))
        return
    report = bench.Report("Memory", chosen)
    table_of_ops(report)
    who = [name for name in CONTESTANTS if name.startswith("minigrad") or bench.available("torch")]
    networks = [(10, 64)] if chosen.quick else NETWORKS
    for activation in ACTIVATIONS:
        table_of_peaks(report, activation, networks, who)
    if chosen.threads == "1" and "PyTorch" in who:
        bench.available("torch").set_num_threads(1)
    for activation in ACTIVATIONS:
        layers, batch = networks[0]
        steps = {name: deep_network(name, activation, layers, batch) for name in who}
        medians = bench.race(steps, rounds=3 if chosen.quick else 15, seconds=0.2)
        report.compare(f"Forward and backward of {layers} layers, batch {batch}, {activation}", medians, "minigrad")
    report.close()


if __name__ == "__main__":
    main()
