"""`minigrad gradcheck`: finds what is named on the command line, draws inputs for it, and checks it."""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import inspect
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, MinigradError
from minigrad.op import Op, registry
from minigrad.testing.check_op import check_op
from minigrad.testing.gradcheck import gradcheck
from minigrad.testing.layers import check_layer
from minigrad.testing.report import GradcheckReport

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  minigrad gradcheck minigrad:sigmoid --shape 3,4 --order 2
  minigrad gradcheck mycode.layers:Affine --shape 5,3
  minigrad gradcheck homework.py:SoftmaxWithLoss --shape 5,3 --labels 5:3
  minigrad gradcheck homework.py:f --vjp homework.py:f_vjp --shape 4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command, for argparse."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add = parser.add_argument
    add(
        "target",
        metavar="MODULE:NAME",
        help="what to check, from a module (package.module:name) or a file (path/file.py:name): a function of Tensors, "
        "an op, or a layer, a class with forward and backward",
    )
    add("--shape", action="append", metavar="N,N", help="shape of an input, drawn from the normal distribution; "
        "once for each input, () for a number (default: 3,4 for each, or for an op what it declares)")  # fmt: skip
    add("--labels", action="append", metavar="N,N:K", help="an input of whole numbers below K, after the others")
    add("--vjp", metavar="MODULE:NAME", help="the rule of a function of plain arrays: vjp(dout, *inputs)")
    add("--order", type=int, default=1, metavar="N", help="2 checks the gradient of the gradient too (default: 1)")
    add("--seed", type=int, default=0, metavar="N", help="the same seed draws the same inputs (default: 0)")
    add("--scale", type=float, default=1.0, metavar="S", help="inputs are drawn S times as large (default: 1)")
    add(
        "--dtype", default="float64", choices=["float16", "float32", "float64"], help="of the inputs (default: float64)"
    )
    add("--rtol", type=float, metavar="R", help="how far backward may be off (default: from the dtype)")
    add("--allow", action="append", default=[], metavar="VERDICT", help="a verdict to accept, such as vacuous")
    add("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """0 if the report is true, 1 if not, 2 if the code under test raises; MinigradError for what cannot be checked."""
    try:
        report = _report(_found("MODULE:NAME", args.target), args)
    except MinigradError:
        raise
    except Exception:  # of the code under test: its traceback is what helps, and 1 would be a verdict
        traceback.print_exc()
        print(f"minigrad: {args.target} raised this while it was checked", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({"target": args.target, **report.to_dict()}, indent=2))
    else:
        print(report)
    return 0 if report else 1


def _report(target: Any, args: argparse.Namespace) -> GradcheckReport:
    is_layer = hasattr(target, "forward") and hasattr(target, "backward")
    is_op = (inspect.isclass(target) and issubclass(target, Op)) or isinstance(target, Op)
    public = any(op.function is target for op in registry())
    allow = tuple(args.allow)
    if (is_op or public) and not args.shape and not args.labels:
        return check_op(target, order=args.order, seed=args.seed, allow=allow)
    if is_op and inspect.isclass(target):
        target = target()
    inputs = _inputs(args, target)
    if is_layer and not is_op:
        if args.order > 1:
            raise ArgumentError(
                "gradcheck: --order",
                f"order {args.order} of a layer",
                "1: a layer of plain arrays has no second derivative",
                "leave --order out",
            )
        return check_layer(target, *inputs, seed=args.seed, rtol=args.rtol, allow=allow)
    if not callable(target):
        raise ArgumentError(
            "gradcheck",
            f"{args.target}, which is a {type(target).__name__}",
            "a function, an op, or a layer with forward and backward",
            "pass the name of one",
        )
    vjp = _found("--vjp", args.vjp) if args.vjp else None
    return gradcheck(target, inputs, vjp=vjp, order=args.order, seed=args.seed, rtol=args.rtol, allow=allow)


def _found(option: str, text: str) -> Any:
    """The object that text names."""
    where, _, name = text.rpartition(":")
    if not where or not name:
        raise ArgumentError(
            f"gradcheck: {option}", repr(text), "a module or file, and a name in it", "pass package.module:name"
        )
    module = _from_file(option, Path(where)) if where.endswith(".py") else _imported(option, where)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = [n for n in vars(found) if not n.startswith("_")]
            near = difflib.get_close_matches(part, names, n=3, cutoff=0.5) or names[:6]
            raise ArgumentError(
                f"gradcheck: {option}",
                f"{text}, but {where} has no {part}",
                f"a name that it has, such as {', '.join(near)}",
                "check the spelling",
            )
        found = getattr(found, part)
    return found


def _imported(option: str, name: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(0, "")  # as python -m does: the user's own modules lie in the current folder
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and one that it imports is not
        raise ArgumentError(
            f"gradcheck: {option}",
            f"the module {name}, which cannot be found",
            "a module that can be imported from here, or a path that ends in .py",
            "check the spelling, or go to the folder that it lies in",
        ) from error


def _from_file(option: str, path: Path) -> Any:
    if not path.is_file():
        raise ArgumentError(f"gradcheck: {option}", f"the file {path}", "a file that is there", "check the path")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, str(path.parent))  # for what lies beside it
    spec.loader.exec_module(module)
    return module


def _inputs(args: argparse.Namespace, target: Any) -> list[Any]:
    rng = np.random.default_rng(args.seed)
    shapes = args.shape if args.shape or args.labels else ["3,4"] * _wanted(target)
    inputs: list[Any] = [
        np.asarray(args.scale * rng.standard_normal(_shape("--shape", text)), args.dtype) for text in shapes or []
    ]
    for text in args.labels or []:
        shape, _, classes = text.rpartition(":")
        if ":" not in text or not classes.isdigit() or int(classes) < 1:
            raise ArgumentError("gradcheck: --labels", repr(text), "a shape and how many classes", "pass --labels 5:3")
        inputs.append(rng.integers(0, int(classes), _shape("--labels", shape)))
    return inputs


def _wanted(target: Any) -> int:
    """How many arguments target, or its forward, cannot do without; 1 where that cannot be seen."""
    function = getattr(target, "forward", target)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return 1
    own = 1 if inspect.isclass(target) and function is not target else 0  # self
    needed = [
        p for p in parameters[own:] if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return max(len(needed), 1)


def _shape(option: str, text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.strip("() ").split(",") if word.strip()]
    if not all(word.isdigit() for word in words):
        raise ArgumentError(
            f"gradcheck: {option}", repr(text), "whole numbers with commas between", f"pass {option} 3,4"
        )
    return tuple(int(word) for word in words)
