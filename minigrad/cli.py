"""The command line: `minigrad train`, `minigrad book`."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from minigrad import __version__
from minigrad.errors import MinigradError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    argv: the words after `minigrad`, those of the command line by default.
    0: done; 1: a number of the book is off; 2: wrong usage, in one sentence; 130: interrupted.

    >>> main(["--version"])
    minigrad 0.1.0
    0
    """
    try:
        args = _parser().parse_args(argv)
        if args.command == "train":
            return _train(args)
        return _book()
    except SystemExit as end:  # argparse has said what there is to say
        return end.code if isinstance(end.code, int) else 2
    except MinigradError as error:
        print(f"minigrad: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("minigrad: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, such as head, has gone. Nothing may be flushed into the pipe on the way out either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    from minigrad.train import train

    defaults = {key: p.default for key, p in inspect.signature(train).parameters.items()}
    parser = _Parser(
        prog="minigrad", description="Automatic differentiation on NumPy that you can read.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"minigrad {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    sub = commands.add_parser(
        "train",
        help="train a network on handwritten digits",
        description="Train a network on handwritten digits and print its accuracy on those it has not seen.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    sub.add_argument("--epochs", type=_whole, metavar="N", help="passes over the training images")
    sub.add_argument("--batch", type=_whole, metavar="N", help="images in each step")
    sub.add_argument("--lr", type=_real, metavar="RATE", help="learning rate")
    sub.add_argument("--momentum", type=_real, metavar="M", help="how much of the last step is added to the next")
    sub.add_argument("--hidden", type=_widths, metavar="N[,N...]", help="widths of the hidden layers")
    sub.add_argument("--seed", type=_whole, metavar="N", help="the same seed gives the same result")
    sub.add_argument("--check", action="store_true", help="first compare backward with numerical differentiation")
    sub.set_defaults(**defaults)
    commands.add_parser(
        "book",
        help="compute the numbers of the book again",
        description="Compute the numbers that Deep Learning from Scratch prints in chapters 4 and 5, and compare. "
        "The exit status is 1 if one is off.",
        allow_abbrev=False,
    )
    return parser


def _train(args: argparse.Namespace) -> int:
    from minigrad.train import train

    options = vars(args)
    del options["command"]
    train(**options)
    return 0


def _book() -> int:
    from minigrad.book.numbers import report

    return report(sys.stdout)


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
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a width such as 64, or several such as 64,32"
        ) from None
