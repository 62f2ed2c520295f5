"""The command line: `minigrad train`, `minigrad book`, `minigrad gradcheck`."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from minigrad import __version__
from minigrad.errors import MinigradError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    argv: the words after `minigrad`, those of the command line by default.
    0: done; 1: a number of the book is off, a gradient is refused, or nobody reads on; 2: wrong usage, in one
    sentence; 130: interrupted.

    >>> main(["--version"])
    minigrad ...
    0
    """
    try:
        status = _run(argv)
        sys.stdout.flush()  # while there is somebody to say that it failed
        return status
    except KeyboardInterrupt:
        print("minigrad: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # a reader such as head has simply seen enough
            print(f"minigrad: cannot write its output: {error}", file=sys.stderr)
        # What is left unwritten must not fail once more when Python flushes it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(argv: Sequence[str] | None) -> int:
    try:
        words = sys.argv[1:] if argv is None else list(argv)
        parser, commands = _parser(words)
        args, unknown = parser.parse_known_args(words)
        if unknown:  # named by the command that does not know them, not by minigrad
            commands[args.command].error(f"unknown option {unknown[0]}")
        jobs = {"train": _train, "book": _book, "gradcheck": _gradcheck}
        return jobs[args.command](args)
    except SystemExit as end:  # argparse has said what there is to say
        return end.code if isinstance(end.code, int) else 2
    except MinigradError as error:
        print(f"minigrad: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"minigrad: not enough memory ({error}); choose smaller sizes, such as --hidden 64", file=sys.stderr)
        return 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser(argv: Sequence[str]) -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(
        prog="minigrad", description="Automatic differentiation on NumPy that you can read.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"minigrad {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    sub = commands.add_parser(
        "train",
        help="train a network on handwritten digits",
        description="Train a network on handwritten digits and print its accuracy on those it has not seen.",
        allow_abbrev=False,
    )
    add = sub.add_argument
    add("--epochs", type=_whole, metavar="N", help="passes over the training images (default: %(default)s)")
    add("--batch", type=_whole, metavar="N", help="images in each step (default: %(default)s)")
    add("--lr", type=_real, metavar="RATE", help="learning rate (default: %(default)s)")
    add("--momentum", type=_real, metavar="M", help="share of a step that goes into the next (default: %(default)s)")
    add("--hidden", type=_widths, metavar="N[,N...]", help="widths of the hidden layers (default: %(default)s)")
    add("--seed", type=_whole, metavar="N", help="the same seed gives the same result (default: %(default)s)")
    add("--check", action="store_true", help="first compare backward with numerical differentiation")
    sub.set_defaults(**_train_defaults())
    commands.add_parser(
        "book",
        help="compute the numbers of the book again",
        description="Compute the numbers that Deep Learning from Scratch prints in chapters 4 and 5, and compare. "
        "The exit status is 1 if one is off.",
        allow_abbrev=False,
    )
    sub = commands.add_parser(
        "gradcheck",
        help="compare a gradient with numerical derivatives",
        description="Compare the gradient of a function, an op or a layer with numerical derivatives,\n"
        "and say what is wrong with it. The exit status is 1 if something is.",
        allow_abbrev=False,
    )
    if argv[:1] == ["gradcheck"]:
        from minigrad.testing.command import add_arguments

        add_arguments(sub)
    return parser, commands.choices


def _train_defaults() -> dict[str, Any]:
    """The defaults of train() itself, so that they stand in one place."""
    from minigrad.train.digits import train

    defaults = {key: p.default for key, p in inspect.signature(train).parameters.items() if key != "out"}
    return {**defaults, "hidden": ",".join(map(str, defaults["hidden"]))}


def _train(args: argparse.Namespace) -> int:
    from minigrad.train.digits import train

    options = vars(args)
    del options["command"]
    train(**options)
    return 0


def _book(args: argparse.Namespace) -> int:
    from minigrad.book.numbers import report

    return report(sys.stdout)


def _gradcheck(args: argparse.Namespace) -> int:
    from minigrad.testing.command import run

    return run(args)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a width such as 64, or several such as 64,32") from None
