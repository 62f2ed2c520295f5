"""python -m minigrad.book script.py [arguments]: runs a script of the book with minigrad in place of its common."""

from __future__ import annotations

import os
import runpy
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from minigrad.book.aliases import install

__all__ = ["main"]

USAGE = "usage: python -m minigrad.book script.py [arguments]"


def main(argv: list[str]) -> int:
    """Runs the script argv[0] as `python script.py` would, with the rest as its arguments.

    common, dataset and the chapters' modules are minigrad.book's; dataset.mnist.load_mnist says where it looks.
    plt.show() where there is no display passes by without a warning. Returns 2 and says why where there is no script
    to run, else 0; what the script raises, SystemExit too, is raised.
    """
    if argv[:1] in (["-h"], ["--help"]):
        print(f"{USAGE}\n\n{(__doc__ or '').strip()}")
        return 0
    if not argv or argv[0].startswith("-"):
        print(f"{USAGE}; got {argv[0] if argv else 'no script'}", file=sys.stderr)
        return 2
    script = Path(argv[0])
    if not script.is_file():
        what = "is a directory" if script.is_dir() else "there is no such file"
        print(f"minigrad.book: {script}: {what}; {USAGE}", file=sys.stderr)
        return 2
    install()
    warnings.filterwarnings("ignore", message=".*non-interactive.*cannot be shown", category=UserWarning)
    folder = str(script.resolve().parent)
    if sys.path[:1] in ([""], [os.getcwd()]):  # what -m has put there, and what `python script.py` has not
        sys.path[0] = folder
    else:
        sys.path.insert(0, folder)
    sys.argv[:] = argv
    sys.excepthook = partial(_show, str(script), sys.excepthook)
    runpy.run_path(str(script), run_name="__main__")
    return 0


def _show(
    script: str, show: Callable[..., Any], kind: type[BaseException], error: BaseException, tb: TracebackType | None
) -> None:
    """What the script raised, as `python script.py` shows it: from the script's own first line on."""
    own = tb
    while own is not None and own.tb_frame.f_code.co_filename != script:
        own = own.tb_next
    if own is None and not (isinstance(error, SyntaxError) and error.filename == script):
        own = tb
    show(kind, error.with_traceback(own), own)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
