"""run.py: what it sets up, when it does so again, and what it says where it cannot."""

import ast
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "run.py"
CONSTRAINTS = """\
# how this file is made
hatchling==1.0 \\
    --hash=sha256:aa
    # via -r -
numpy==2.4 ; python_full_version < '3.12' \\
    --hash=sha256:bb \\
    --hash=sha256:cc
    # via minigrad (pyproject.toml)
numpy==2.5 ; python_full_version >= '3.12' \\
    --hash=sha256:dd
    # via minigrad (pyproject.toml)
Py.Test==9.0 \\
    --hash=sha256:ee
    # via minigrad (pyproject.toml)
pluggy==1.7 \\
    --hash=sha256:ff
    # via
    #   hatchling
    #   py-test
toolkit==0.1 \\
    --hash=sha256:00
    # via pluggy
"""
PYPROJECT = """\
[build-system]
requires = ["hatchling>=0.9"]
[project]
dependencies = ["numpy>=2.0"]
[project.optional-dependencies]
test = ["py_test"]
lint = []
docs = []
"""


def load() -> ModuleType:
    """run.py as a module of its own."""
    spec = importlib.util.spec_from_file_location("minigrad_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Machine:
    """run.py in a folder of its own, with a Python, installers and jobs that only pretend."""

    def __init__(self, root: Path) -> None:
        self.run = load()
        self.root = root
        self.venv = root / ".venv"
        vars(self.run).update(ROOT=self.root, VENV=self.venv)
        self.uv: str | None = None
        self.calls: list[list[str]] = []
        self.envs: list[dict[str, str]] = []
        self.jobs: list[list[str]] = []
        self.fail: Callable[[list[str]], str] = lambda command: ""
        self.status: dict[str, int] = {}
        root.mkdir()
        (root / "constraints.txt").write_text(CONSTRAINTS)
        (root / "pyproject.toml").write_text(PYPROJECT)

    def start(self, *args: str) -> int:
        """Start run.py; `steps` and `jobs` then tell of this start alone."""
        self.calls.clear()
        self.jobs.clear()
        status = self.run.main(list(args))
        assert isinstance(status, int)
        return status

    @property
    def steps(self) -> list[str]:
        """What set-up did at the last start."""
        return [
            "venv" if "venv" in call else "packages" if "--require-hashes" in call else "minigrad"
            for call in self.calls
        ]

    @property
    def pins(self) -> list[str]:
        """The pins that were last handed to the installer."""
        return re.findall(r"^\S+==\S+", (self.venv / "pins.txt").read_text(), re.MULTILINE)

    def call(self, command: list[str], **options: object) -> SimpleNamespace:
        """Do what a step of the set-up leaves behind."""
        assert options["cwd"] == self.root
        env = options["env"]
        assert isinstance(env, dict)
        self.envs.append(env)
        self.calls.append(command)
        trouble = self.fail(command)
        if trouble:
            return SimpleNamespace(returncode=1, stdout=trouble)
        site = self.run.site_packages()
        if "venv" in command:
            names = [] if "--without-pip" in command else ["pip"]
            self.run.program("python").parent.mkdir(parents=True)
            self.run.program("python").touch()
        elif "-r" in command:
            names = [pin.replace("==", "-") + ".dist-info" for pin in self.pins]
        else:
            names = ["minigrad-0.1.0.dist-info"]
            self.run.program("minigrad").touch()
        for name in names:
            (site / name).mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(returncode=0, stdout="")

    def job(self, command: list[str], **options: object) -> int:
        """Note a job and give back the status that the test wants."""
        self.jobs.append([Path(command[0]).name, *command[1:]])
        return next((status for word, status in self.status.items() if word in command), 0)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with Python and pip, a network and no uv."""
    made = Machine(tmp_path / "a folder")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: made.uv)
    monkeypatch.setattr(subprocess, "run", made.call)
    monkeypatch.setattr(subprocess, "call", made.job)
    monkeypatch.setattr(os, "execv", lambda path, command: made.job(command))
    monkeypatch.setattr(made.run, "become", made.job)
    return made


@pytest.mark.parametrize(
    ("args", "job"),
    [
        ([], ["minigrad", "train"]),
        (["--epochs", "3"], ["minigrad", "train", "--epochs", "3"]),
        (["train", "--epochs", "3"], ["minigrad", "train", "--epochs", "3"]),
        (["train", "--help"], ["minigrad", "train", "--help"]),
        (["book"], ["minigrad", "book"]),
        (["test", "-k", "sigmoid"], ["python", "-m", "pytest", "-k", "sigmoid"]),
    ],
)
def test_arguments_go_through(machine: Machine, args: list[str], job: list[str]) -> None:
    machine.start(*args)
    assert machine.jobs == [job]


def test_only_the_tests_run_in_the_folder_of_run_py(machine: Machine, tmp_path: Path) -> None:
    machine.start("train")
    assert Path.cwd() == tmp_path
    machine.start("test")
    assert Path.cwd() == machine.root


def test_exit_status_goes_through(machine: Machine) -> None:
    machine.status = {"train": 3, "pytest": 5}
    assert machine.start() == 3
    assert machine.start("test") == 5
    assert machine.start("book") == 0


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a job is a child process")
def test_a_job_takes_the_place_of_run_py(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda path, command: seen.append((path, command)))
    monkeypatch.setattr(subprocess, "call", lambda command: 0)
    load().become(["/there/minigrad", "book"])
    assert seen == [("/there/minigrad", ["/there/minigrad", "book"])]


@pytest.mark.parametrize("failing", ["check", "format", "mypy"])
def test_lint_runs_every_check_and_fails_with_any(machine: Machine, failing: str) -> None:
    assert machine.start("lint") == 0
    assert machine.jobs == [
        ["python", "-m", "ruff", "check", "."],
        ["python", "-m", "ruff", "format", "--check", "."],
        ["python", "-m", "mypy"],
    ]
    machine.status = {failing: 1}
    assert machine.start("lint") == 1
    assert len(machine.jobs) == 3


@pytest.mark.parametrize("job", ["lint", "docs"])
def test_a_job_without_arguments_refuses_them(machine: Machine, job: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert machine.start(job, "--fix") == 1
    assert f"{job} takes no arguments and got --fix" in capsys.readouterr().err
    assert machine.steps == []


def test_docs_builds_the_site_anew_and_says_where_it_is(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    left = machine.root / "build" / "site" / "left over.html"
    left.parent.mkdir(parents=True)
    left.touch()
    assert machine.start("docs") == 0
    assert "Py.Test==9.0" in machine.pins  # pages use what tests use
    ((python, *command),) = machine.jobs
    assert (python, command[:2], command[-2:]) == ("python", ["-m", "sphinx"], ["docs", "build/site"])
    assert {"-W", "-n", "--keep-going", "-E"} <= set(command)
    assert not left.exists()
    *_, last = capsys.readouterr().err.splitlines()
    assert f"the site is {machine.root / 'build' / 'site' / 'index.html'}; open" in last


def test_docs_fails_where_sphinx_does(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.status = {"sphinx": 1}
    assert machine.start("docs") == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert "could not be built" in last


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_job_and_does_nothing(machine: Machine, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert machine.start(flag) == 0
    text = capsys.readouterr().out
    assert all(f"python3 run.py {job}" in text for job in ("train", "book", "gradcheck", "test", "lint", "docs"))
    assert machine.steps == []
    assert machine.jobs == []


def test_the_first_start_sets_up_and_says_so(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.start()
    assert machine.steps == ["venv", "packages", "minigrad"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["making", "installing", "installing"]
    assert "with pip" in lines[1]


def test_the_second_start_is_silent(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.start()
    capsys.readouterr()
    machine.start("book")
    assert machine.steps == []
    assert capsys.readouterr().err == ""
    assert machine.jobs == [["minigrad", "book"]]


def test_pip_and_uv_get_the_same_pins(machine: Machine) -> None:
    machine.start()
    python = str(machine.run.program("python"))
    assert machine.calls[0][1:] == ["-m", "venv", str(machine.venv)]
    assert machine.calls[1][:4] == [python, "-m", "pip", "install"]
    by_pip = machine.pins
    shutil.rmtree(machine.venv)
    machine.uv = "/there/uv"
    machine.start()
    assert machine.calls[0][1:] == ["-m", "venv", "--without-pip", str(machine.venv)]
    for command in machine.calls[1:]:
        assert command[:3] == ["/there/uv", "pip", "install"]
        assert command[command.index("--python") + 1] == python
    assert machine.pins == by_pip


def test_a_job_gets_what_it_needs_and_no_more(machine: Machine) -> None:
    machine.start()
    assert machine.pins == ["hatchling==1.0", "numpy==2.4", "numpy==2.5", "pluggy==1.7", "toolkit==0.1"]
    machine.start("test")
    assert machine.steps == ["packages", "minigrad"]
    assert "Py.Test==9.0" in machine.pins
    machine.start("book")
    assert machine.steps == []
    (machine.root / "constraints.txt").write_text(CONSTRAINTS + "# later\n")
    machine.start("book")
    assert "Py.Test==9.0" in machine.pins


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_a_changed_file_is_noticed(machine: Machine, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    machine.start()
    with open(machine.root / name, "a") as file:
        file.write("# changed\n")
    machine.start()
    assert machine.steps == ["packages", "minigrad"]
    assert "has changed" in capsys.readouterr().err
    machine.start()
    assert machine.steps == []


def test_a_package_that_was_removed_is_noticed(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.start()
    (machine.run.site_packages() / "numpy-2.4.dist-info").rmdir()
    machine.start()
    assert machine.steps == ["packages", "minigrad"]
    machine.run.program("minigrad").unlink()
    machine.start()
    assert machine.steps == ["packages", "minigrad"]
    assert "changed by hand" in capsys.readouterr().err


def unfinish(machine: Machine) -> None:
    (machine.venv / machine.run.STAMP).unlink()


def garble(machine: Machine) -> None:
    (machine.venv / machine.run.STAMP).write_text("{")


def remove_python(machine: Machine) -> None:
    machine.run.program("python").unlink()


def change_python(machine: Machine) -> None:
    change_stamp(machine, python="3.11.0")


def move(machine: Machine) -> None:
    change_stamp(machine, place="/elsewhere")


def lose_uv(machine: Machine) -> None:
    (machine.run.site_packages() / "pip").rmdir()
    change_stamp(machine, files="others")


def change_stamp(machine: Machine, **entries: str) -> None:
    path = machine.venv / machine.run.STAMP
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (unfinish, "no finished set-up"),
        (garble, "no finished set-up"),
        (remove_python, "another Python"),
        (change_python, "another Python"),
        (move, "another folder"),
        (lose_uv, "made with uv"),
    ],
)
def test_an_environment_that_cannot_be_kept_is_made_anew(
    machine: Machine, spoil: Callable[[Machine], None], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.start()
    (machine.venv / "left over").touch()
    spoil(machine)
    machine.start()
    assert machine.steps == ["venv", "packages", "minigrad"]
    assert reason in capsys.readouterr().err
    assert not (machine.venv / "left over").exists()
    machine.start()
    assert machine.steps == []


@pytest.mark.parametrize("step", ["venv", "-r", "-e"])
def test_an_interrupted_set_up_is_done_again(machine: Machine, step: str, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(command: list[str]) -> str:
        if step in command:
            raise KeyboardInterrupt
        return ""

    machine.fail = interrupt
    assert machine.start() == 130
    assert "start again" in capsys.readouterr().err
    assert machine.jobs == []
    machine.fail = lambda command: ""
    assert machine.start() == 0
    assert machine.steps == ["venv", "packages", "minigrad"]


def test_an_interrupted_change_is_noticed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(command: object) -> str:
        raise KeyboardInterrupt

    machine.start()
    machine.fail = interrupt
    assert machine.start("test") == 130
    machine.fail = lambda command: ""
    assert machine.start("book") == 0
    assert machine.steps == ["venv", "packages", "minigrad"]
    move(machine)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupt)
        assert machine.start() == 130
    assert not (machine.venv / machine.run.STAMP).exists()


@pytest.mark.parametrize(
    "message",
    [
        "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\n"
        "ERROR: No matching distribution found for numpy==2.4",
        "error: Failed to fetch: `numpy`\n  Caused by: dns error: failed to lookup address information",
        "error: error sending request for url\n  Caused by: client error (Connect)",
        "ReadTimeoutError: Read timed out.",
    ],
)
def test_no_network_is_one_sentence(machine: Machine, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    machine.fail = lambda command: message if "-r" in command else ""
    assert machine.start() == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert "could not be reached" in last
    assert "start again" in last
    assert machine.jobs == []


def test_what_worked_before_a_failed_update_still_does(machine: Machine) -> None:
    machine.start()
    before = (machine.root / "constraints.txt").read_text()
    (machine.root / "constraints.txt").write_text(before + "# newer\n")
    machine.fail = lambda command: "dns error" if "-r" in command else ""
    assert machine.start() == 1
    assert machine.start() == 1
    assert machine.steps == ["packages"]
    (machine.root / "constraints.txt").write_text(before)
    assert machine.start() == 0
    assert machine.steps == []


@pytest.mark.parametrize(
    "message",
    [
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n    numpy==2.4 from\n",
        "  x Failed to download `numpy==2.4`\n  Hash mismatch for `numpy==2.4`",
    ],
)
def test_a_wrong_hash_names_the_package(machine: Machine, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    machine.fail = lambda command: message if "-r" in command else ""
    assert machine.start() == 1
    assert "numpy==2.4 as fetched has none of the hashes" in capsys.readouterr().err


@pytest.mark.parametrize("message", ["No space left on device", "client error (Connect): invalid peer certificate"])
def test_any_other_failure_is_shown(machine: Machine, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    machine.fail = lambda command: message if "-r" in command else ""
    assert machine.start() == 1
    *_, shown, last = capsys.readouterr().err.splitlines()
    assert shown == message
    assert "installing packages with pip failed with the message above" in last


def test_a_python_without_ensurepip_names_the_package_to_install(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert machine.start() == 1
    assert machine.steps == []
    assert not machine.venv.exists()
    version = "{}.{}".format(*sys.version_info[:2])
    assert f"sudo apt install python{version}-venv" in capsys.readouterr().err
    machine.uv = "/there/uv"
    assert machine.start() == 0
    # What uv made is not given up before it is sure that something can take its place.
    machine.uv = None
    before = (machine.root / "constraints.txt").read_text()
    (machine.root / "constraints.txt").write_text(before + "# newer\n")
    assert machine.start() == 1
    (machine.root / "constraints.txt").write_text(before)
    assert machine.start() == 0
    assert machine.steps == []


def test_a_pyproject_that_cannot_be_read_is_one_sentence(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    (machine.root / "pyproject.toml").write_text("[project")
    assert machine.start() == 1
    assert "pyproject.toml cannot be read: " in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_sentence(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert machine.start() == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert f"cannot use {machine.venv}: Permission denied" in last
    assert "where you may write" in last


def test_the_callers_python_path_is_kept_from_installers(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("HTTPS_PROXY", "proxy")
    machine.start()
    assert len(machine.envs) == 3
    assert all("PYTHONPATH" not in env and env["HTTPS_PROXY"] == "proxy" for env in machine.envs)


@pytest.mark.parametrize("version", [(3, 6, 15), (3, 10, 13)])
def test_an_old_python_is_told_what_is_needed(version: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit, match=rf"needs Python 3\.11 or newer, and this is Python 3\.{version[1]};"):
        runpy.run_path(str(SCRIPT), run_name="__main__")


def test_an_old_python_can_parse_run_py() -> None:
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_a_package_without_a_pin_is_named() -> None:
    run = load()
    with pytest.raises(run.SetupError, match=r"pins no torch, .* CONTRIBUTING\.md"):
        run.pinned(["numpy", "torch"], CONSTRAINTS)


def test_pins_keep_markers_and_hashes() -> None:
    text = load().pinned(["numpy"], CONSTRAINTS)
    assert "numpy==2.4 ; python_full_version < '3.12' \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n" in text
    assert "numpy==2.5 ; python_full_version >= '3.12' \\\n    --hash=sha256:dd\n" in text
    assert "pluggy" not in text


def test_constraints_pin_what_the_jobs_need_and_nothing_else() -> None:
    run = load()
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    everything = run.pinned(run.required({"test", "lint", "docs"}), constraints)
    assert everything == constraints[constraints.index(everything[:20]) :]
    train = run.pinned(run.required(set()), constraints)
    assert "\nnumpy==" in train
    assert "\npytest==" not in train


def test_constraints_hold_names_versions_and_hashes_and_no_addresses() -> None:
    line = re.compile(
        r"[a-z0-9-]+==[\w.]+( ; [\w ='<>.!*]+)? \\"
        r"|    --hash=sha256:[0-9a-f]{64}( \\)?"
        r"|    # via( [\w. ():-]+)?|    #   [\w. ():-]+"
    )
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [text for text in lines if not text.startswith("#") and not line.fullmatch(text)] == []
    assert not any("://" in text for text in lines)
