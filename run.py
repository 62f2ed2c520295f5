#!/usr/bin/env python3
"""Set minigrad up in .venv, then run it.

python3 run.py                     train on the digits, the same as `run.py train`
python3 run.py train --epochs 3    any minigrad command, with its own options
python3 run.py --epochs 3          options without a command are train's
python3 run.py book                every number of the book's chapters 4 and 5
python3 run.py gradcheck FILE.py:NAME    a gradient, compared with numerical derivatives
python3 run.py test -k sigmoid     the tests; what follows `test` goes to pytest
python3 run.py lint                ruff check, ruff format --check, mypy
python3 run.py docs                the documentation as a site, in build/site; every block of code on it is run
python3 run.py --help              this text; `run.py train --help` is the command's own

Nothing but Python 3.11 or newer is needed beforehand. The first start makes .venv beside this file and
installs there, with uv where there is one and otherwise with pip, the versions that constraints.txt pins.
Later starts do that again only for what has changed. .venv is run.py's own: where it does not know it, it
makes it anew, and to start afresh, delete it.
"""

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

# Before anything that an older Python cannot run. The whole file must parse on Python 3.6 to come this far.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        "run.py: minigrad needs Python 3.11 or newer, and this is Python {}.{}; "
        "start run.py with a newer one, for example `python3.11 run.py`.".format(*sys.version_info[:2])
    )

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = "run.json"
EXTRAS = {
    "test": {"test"},
    # mypy also reads what the package imports for testing, so lint installs both.
    "lint": {"lint", "test"},
    # The code on the pages of the site uses what the tests use.
    "docs": {"docs", "test"},
}
JOBS = ["train", "book", "gradcheck", "test", "lint", "docs"]
ALONE = ["lint", "docs"]
SITE = "build/site"
NO_NETWORK = re.compile(
    "NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|name resolution|Name or service not known"
    "|getaddrinfo|[Nn]etwork is unreachable|[Cc]onnection (aborted|refused|reset)|timed out|dns error"
    "|error sending request|client error"
)


class SetupError(Exception):
    """Set-up cannot go on; the text is the sentence to show."""


def main(args: list[str]) -> int:
    """Set up what the job needs, run the job and return its exit status."""
    if args[:1] in (["-h"], ["--help"]):
        print(__doc__.strip() if __doc__ else "")
        return 0
    job, rest = route(args)
    try:
        if job not in JOBS:
            raise SetupError(f"there is no job {job!r}; choose {', '.join(JOBS)}, or see run.py --help.")
        if job in ALONE and rest:
            raise SetupError(f"{job} takes no arguments and got {' '.join(rest)}; leave them out.")
        set_up(EXTRAS.get(job, set()))
        return run(job, rest)
    except SetupError as error:
        say(str(error))
    except OSError as error:
        say(
            f"cannot use {error.filename or ROOT}: {error.strerror or error}; "
            "work in a whole copy of minigrad's folder, in a place where you may write, and start again."
        )
    except KeyboardInterrupt:
        say("stopped; start again to go on.")
        return 130
    return 1


def route(args: list[str]) -> tuple[str, list[str]]:
    """Split the arguments into the job and what goes through to it; the main job is train."""
    if not args or args[0].startswith("-"):
        return "train", args
    return args[0], args[1:]


def run(job: str, rest: list[str]) -> int:
    """Run a job in the environment."""
    python = str(program("python"))
    if job == "lint":
        checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])
        return max(abs(subprocess.call([python, "-m", *check], cwd=ROOT)) for check in checks)
    if job == "docs":
        return build_site(python)
    if job == "test":
        os.chdir(ROOT)
        return become([python, "-m", "pytest", *rest])
    return become([str(program("minigrad")), job, *rest])


def build_site(python: str) -> int:
    """Build the documentation anew, with warnings as errors, and say where it is."""
    site = ROOT / SITE
    # What an earlier build left would be found and read as if it were of this one.
    shutil.rmtree(site, ignore_errors=True)
    options = ["-b", "html", "-q", "-W", "-n", "--keep-going", "-E", "-j", "auto", "-d", f"{SITE}-state"]
    status = abs(subprocess.call([python, "-m", "sphinx", *options, "docs", SITE], cwd=ROOT))
    if status:
        say("the site could not be built, for the reasons above; mend what they name and start again.")
    else:
        say(f"the site is {site / 'index.html'}; open that file in a browser, no server and no network needed.")
    return status


def become(command: list[str]) -> int:
    """Run the command in this process's place, so that signals and exit status are its own."""
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.call(command)


def set_up(extras: set[str]) -> None:
    """Bring .venv to what constraints.txt and pyproject.toml say; where it is there already, do nothing."""
    now = {"place": str(ROOT), "python": sys.version, "files": fingerprint()}
    stamp = read_stamp()
    flaw = flaw_in(stamp, now)
    change = "" if flaw else change_in(stamp, now, extras)
    if not flaw and not change:
        return
    uv = shutil.which("uv")
    if not flaw and not uv and not (site_packages() / "pip").is_dir():
        flaw = "was made with uv, which is not found now"
    if flaw:
        make_venv(uv, flaw)
        stamp = {}
    else:
        say(f"{change}; bringing .venv up to date.")
        mark_unfinished()
    extras = extras.union(stamp.get("extras", []))
    try:
        install(uv, extras)
    except SetupError:
        # Installers fetch everything before they change anything: what was there still works.
        if stamp:
            write_stamp(stamp)
        raise
    installed = sorted(path.name for path in site_packages().glob("*.dist-info"))
    write_stamp({**now, "extras": sorted(extras), "installed": installed})


def fingerprint() -> str:
    """Tell one content of the files that decide what is installed from another."""
    digest = hashlib.sha256()
    for name in ("constraints.txt", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def read_stamp() -> dict[str, Any]:
    """What the last finished set-up noted; empty where none finished."""
    try:
        stamp = json.loads((VENV / STAMP).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(stamp: dict[str, Any]) -> None:
    """Note that set-up has finished, and with what."""
    (VENV / STAMP).write_text(json.dumps(stamp, indent=1), encoding="utf-8")


def mark_unfinished() -> None:
    """Take the stamp away before a change, so that an interruption shows at the next start."""
    (VENV / STAMP).unlink(missing_ok=True)


def flaw_in(stamp: dict[str, Any], now: dict[str, str]) -> str:
    """Why .venv has to be made anew, or nothing."""
    if not stamp:
        return "has no finished set-up in it"
    if stamp.get("place") != now["place"]:
        return "was made in another folder"
    if stamp.get("python") != now["python"] or not program("python").exists():
        return "was made with another Python"
    return ""


def change_in(stamp: dict[str, Any], now: dict[str, str], extras: set[str]) -> str:
    """Why packages have to be installed into .venv, or nothing."""
    if stamp.get("files") != now["files"]:
        return "constraints.txt or pyproject.toml has changed"
    missing = sorted(extras.difference(stamp.get("extras", [])))
    if missing:
        return f"more packages are wanted for {' and '.join(missing)}"
    wanted = [program("minigrad"), *(site_packages() / name for name in stamp.get("installed", []))]
    if not all(path.exists() for path in wanted):
        return "packages have been changed by hand"
    return ""


def make_venv(uv: str | None, flaw: str) -> None:
    """Make an empty .venv, with pip in it where there is no uv."""
    if not uv and importlib.util.find_spec("ensurepip") is None:
        version = "{}.{}".format(*sys.version_info[:2])
        raise SetupError(
            "this Python comes without ensurepip, which brings pip into .venv; install it, on Debian or "
            f"Ubuntu with `sudo apt install python{version}-venv`, or install uv, and start again."
        )
    if VENV.exists():
        say(f".venv {flaw}; making it anew.")
        mark_unfinished()
        shutil.rmtree(VENV)
    else:
        say(f"making .venv with Python {platform.python_version()}.")
    VENV.mkdir()
    # Started with .venv's own Python, sys.executable is what was just removed.
    base = getattr(sys, "_base_executable", None) or sys.executable
    call([base, "-m", "venv", *(["--without-pip"] if uv else []), str(VENV)], "making .venv")


def install(uv: str | None, extras: set[str]) -> None:
    """Install the pinned packages that minigrad and these extras need, then minigrad itself."""
    names = required(extras)
    pins = VENV / "pins.txt"
    pins.write_text(pinned(names, (ROOT / "constraints.txt").read_text(encoding="utf-8")), encoding="utf-8")
    if uv:
        installer = [uv, "pip", "install", "--quiet", "--python", str(program("python"))]
    else:
        installer = [str(program("python")), "-m", "pip", "install", "--quiet", "--no-input"]
        installer += ["--disable-pip-version-check"]
    by = "uv" if uv else "pip"
    say(f"installing {', '.join(names)} and what they need, as pinned in constraints.txt, with {by}.")
    call([*installer, "--no-deps", "--require-hashes", "-r", str(pins)], f"installing packages with {by}")
    say("installing minigrad from this folder.")
    call([*installer, "--no-deps", "--no-build-isolation", "-e", "."], f"installing minigrad with {by}")


def required(extras: set[str]) -> list[str]:
    """Names of the packages that pyproject.toml asks for: to run, to build, and in these extras."""
    import tomllib  # not there on the Pythons that only read the sentence at the top

    try:
        table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SetupError(f"pyproject.toml cannot be read: {error}; mend it and start again.") from error
    wanted = [*table["project"]["dependencies"], *table["build-system"]["requires"]]
    for extra in sorted(extras):
        wanted += table["project"]["optional-dependencies"][extra]
    return [canonical(requirement) for requirement in wanted]


def pinned(names: list[str], constraints: str) -> str:
    """The part of constraints.txt for these packages and, as its `# via` lines tell, what they need."""
    pins = []
    for pin in re.split(r"^(?=[A-Za-z0-9])", constraints, flags=re.MULTILINE)[1:]:
        pins.append((canonical(pin), set(re.findall(r"^ +#(?: via|  ) (\S+)", pin, re.MULTILINE)), pin))
    missing = set(names).difference(name for name, _, _ in pins)
    if missing:
        raise SetupError(
            f"constraints.txt pins no {' and no '.join(sorted(missing))}, which pyproject.toml asks for; "
            "make constraints.txt again as CONTRIBUTING.md says."
        )
    chosen, more = set(names), set(names)
    while more:
        more = {name for name, via, _ in pins if via & chosen} - chosen
        chosen |= more
    return "".join(pin for name, _, pin in pins if name in chosen)


def canonical(requirement: str) -> str:
    """The package's name in a requirement, written the one way in which names compare."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0]).lower()


def call(command: list[str], doing: str) -> None:
    """Run a step of the set-up; where it fails, raise the sentence that says why."""
    # The caller's PYTHONPATH must not make the installer believe that a package is there already.
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode == 0:
        return
    # pip says "do not match the hashes", uv "Hash mismatch".
    if re.search("match the hashes|hash mismatch", done.stdout, re.IGNORECASE):
        package = re.search(r"[\w.-]+==[\w.]+", done.stdout)
        raise SetupError(
            f"{doing} failed, because {package.group() if package else 'a package'} as fetched has none of "
            "the hashes in constraints.txt; do not use it, and see whether your package index is right."
        )
    # A certificate that is refused means that the network is there: its message says more.
    if NO_NETWORK.search(done.stdout) and "certificate" not in done.stdout.lower():
        raise SetupError(
            f"{doing} failed, because the package index could not be reached; "
            "connect to the network (behind a proxy, set HTTPS_PROXY) and start again."
        )
    print("\n".join(done.stdout.splitlines()[-15:]), file=sys.stderr)
    raise SetupError(f"{doing} failed with the message above; mend what it names and start again.")


def site_packages() -> Path:
    """The folder that .venv's packages are in."""
    return venv_path("purelib")


def program(name: str) -> Path:
    """A program of .venv."""
    return venv_path("scripts") / (f"{name}.exe" if os.name == "nt" else name)


def venv_path(kind: str) -> Path:
    """One of .venv's folders, by sysconfig's name for it."""
    return Path(sysconfig.get_path(kind, "venv", vars={"base": str(VENV), "platbase": str(VENV)}))


def say(sentence: str) -> None:
    """Tell the user, apart from what the job itself prints."""
    print(f"run.py: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
