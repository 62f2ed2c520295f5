"""python -m minigrad.book script.py [arguments]: runs a script of the book with minigrad in place of its common."""

from __future__ import annotations

import os
import runpy
import sys
import warnings
from pathlib import Path

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
    runpy.run_path(str(script), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
