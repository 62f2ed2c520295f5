"""The digits, `minigrad train` on them, and the command line: results, options, what goes wrong."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import cli, data
from minigrad.book import numbers
from minigrad.errors import ArgumentError, DTypeError, GradientError, LabelError, ShapeError
from minigrad.train import digits as train

SMALL = ["--epochs", "2", "--hidden", "16"]
LINE = re.compile(r"epoch +(\d+)/(\d+)  loss +(\d+\.\d{4})  accuracy (\d\.\d{4})  test (\d\.\d{4})")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


# Data


def test_the_digits_are_those_of_the_source() -> None:
    x, t = data.load_digits()
    assert (x.shape, x.dtype, t.shape, t.dtype) == ((1797, 64), np.float64, (1797,), np.int64)
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert np.bincount(t).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    package = Path(data.__file__).parent
    digest = hashlib.sha256((package / "digits.npz").read_bytes()).hexdigest()
    assert digest in (package / "digits.md").read_text()


def test_the_options_of_load_digits_are_those_of_load_mnist() -> None:
    x, t = data.load_digits()
    raw, rows = data.load_digits(normalize=False, flatten=False, one_hot_label=True)
    assert (raw.shape, raw.dtype) == ((1797, 8, 8), np.uint8)
    assert np.array_equal(raw.reshape(-1, 64) / 16, x)
    assert rows.shape == (1797, 10)
    assert np.array_equal(rows.argmax(axis=1), t)
    assert (rows.sum(axis=1) == 1).all()
    x[:] = 0  # the caller's own
    assert data.load_digits()[0].max() == 1


def test_split_loses_and_repeats_nothing() -> None:
    x = np.arange(100.0)
    (x_train, t_train), (x_test, t_test) = data.split(x, x.astype(int), test=0.25, seed=3)
    assert (len(x_train), len(x_test)) == (75, 25)
    assert sorted([*x_train, *x_test]) == x.tolist()
    assert np.array_equal(x_train, t_train)
    assert np.array_equal(x_test, t_test)
    again, other = (data.split(x, x, test=0.25, seed=seed)[1][0] for seed in (3, 4))
    assert np.array_equal(x_test, again)
    assert not np.array_equal(x_test, other)


@pytest.mark.parametrize(
    ("t", "test", "error"),
    [
        ([1, 2], 0.5, ShapeError),
        (1, 0.5, ShapeError),
        ([1, 2, 3], 1.0, ArgumentError),
        ([1, 2, 3], 0.01, ArgumentError),
    ],
)
def test_split_refuses(t: Any, test: float, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^split.*; expected .*; "):
        data.split([1.0, 2.0, 3.0], t, test=test)


@pytest.mark.parametrize(
    ("t", "error", "got"),
    [
        ([0.0, 1.0], DTypeError, "float64"),
        ([0, 3], LabelError, "t[1] = 3"),
        ([-1], LabelError, "t[0] = -1"),
    ],
)
def test_one_hot_refuses(t: Any, error: type[Exception], got: str) -> None:
    with pytest.raises(error, match=rf"^one_hot: t: .*{re.escape(got)}.*; expected .*; "):
        data.one_hot(t, 3)


# Training


def test_the_default_reads_96_of_100_digits(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train"]) == 0
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == "1438 digits to learn from, 359 to test on, layers 64 - 128 - 64 - 10"
    epochs = [LINE.fullmatch(line) for line in lines]
    assert [m and m[1] for m in epochs] == [str(i) for i in range(1, 21)]
    losses = [float(m[3]) for m in epochs if m]
    assert losses[-1] < 0.01 < losses[0]
    accuracy = re.fullmatch(r"test accuracy (\d+\.\d\d)%", last)
    assert accuracy
    assert float(accuracy[1]) >= 96
    assert epochs[-1] is not None
    assert float(epochs[-1][5]) == pytest.approx(float(accuracy[1]) / 100, abs=6e-5)


def test_the_same_seed_prints_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for seed in ("5", "5", "6"):
        assert cli.main(["train", *SMALL, "--seed", seed]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_options_reach_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    def says(*options: str) -> str:
        assert cli.main(["train", *SMALL, *options]) == 0
        return capsys.readouterr().out

    plain = says()
    assert "layers 64 - 16 - 10\n" in plain
    assert "layers 64 - 8 - 6 - 10\n" in says("--hidden", "8,6")
    assert says("--epochs", "1").count("epoch ") == 1
    for option in (["--lr", "0.01"], ["--batch", "100"], ["--momentum", "0"]):
        assert says(*option) != plain


@pytest.mark.parametrize(("batch", "sizes"), [(1000, {1000, 438}), (1438, {1438}), (719, {719})])
def test_an_epoch_takes_every_sample_once(batch: int, sizes: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    real, taken = train.step, []

    def step(params: Any, velocity: Any, x: Any, *rest: Any) -> float:
        taken.append(x)
        return real(params, velocity, x, *rest)

    monkeypatch.setattr(train, "step", step)
    train.train(epochs=1, hidden=(4,), batch=batch, out=io.StringIO())
    (x, _), _ = data.split(*data.load_digits(), seed=0)
    assert {len(part) for part in taken} == sizes
    assert sorted(np.concatenate(taken).tolist()) == sorted(x.tolist())


def test_a_terminal_sees_one_changing_line() -> None:
    out = Terminal()
    train.train(epochs=3, hidden=(16,), out=out)
    _, progress, last, _ = out.getvalue().split("\n")
    empty, *states = progress.split("\r")
    assert empty == ""
    assert [LINE.fullmatch(state) is not None for state in states] == [True] * 3
    assert len({len(state) for state in states}) == 1  # so that nothing of the line before shows
    assert last.startswith("test accuracy ")


def test_check_prints_a_row_for_each_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--epochs", "1", "--hidden", "5", "--check"]) == 0
    checked = capsys.readouterr().out
    header, *rows = checked.splitlines()[:5]
    assert header.split("  ")[-1] == "mean |backward - numerical|"
    assert [row.split("  ")[0].strip() for row in rows] == ["W1", "b1", "W2", "b2"]
    assert all(0 < float(row.split()[-1]) < 1e-9 < float(row.split()[-2]) for row in rows)
    assert cli.main(["train", "--epochs", "1", "--hidden", "5"]) == 0
    assert checked.endswith(capsys.readouterr().out)  # the check changes nothing


def test_check_finds_a_wrong_rule(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def frozen(x: Any) -> mg.Tensor:
        return mg.relu(x) + 0.01 * mg.relu(x).detach()

    monkeypatch.setattr(train, "relu", frozen)
    assert cli.main(["train", *SMALL, "--check"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("minigrad: train: check: backward and numerical differentiation disagree for W1, b1;")
    assert "epoch" not in said.out
    with pytest.raises(GradientError):
        train.train(hidden=(4,), check=True, out=io.StringIO())


@pytest.mark.parametrize("lr", ["1e3", "1e100", "1e300"])
def test_a_loss_that_runs_away_is_said_so(lr: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *SMALL, "--lr", lr]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"minigrad: train: lr: lr=.* ran away to .* in epoch 1; expected .*; .*--lr 0.05\n", said)


# The command line


@pytest.mark.parametrize(
    "options",
    [
        "--epochs 0", "--epochs -1", "--epochs 2.5", "--epochs many", "--batch 0", "--batch 1439", "--lr 0",
        "--lr -0.1", "--lr nan", "--lr inf", "--lr fast", "--momentum 1", "--momentum -0.5", "--hidden 0",
        "--hidden 64,x", "--hidden ,", "--seed -1", "--seed x",
    ],
)  # fmt: skip
def test_a_bad_option_is_one_sentence(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *options.split()]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("minigrad")
    option, value = options.split()
    assert option.strip("-") in said.err
    assert "invalid _" not in said.err  # argparse's own words, with the name of our function
    assert value.strip(",-").split(",")[0] in said.err


@pytest.mark.parametrize("words", [[], ["trian"], ["--wrong"], ["book", "--wrong"], ["train", "--epoch", "3"]])
def test_a_wrong_word_is_one_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"minigrad.*: .*; see minigrad.* --help\n", said.err)


@pytest.mark.parametrize(
    ("option", "value"),
    [("hidden", ()), ("hidden", 64), ("hidden", (6.4,)), ("epochs", True), ("lr", "0.1"), ("seed", None)],
)
def test_train_refuses_what_the_command_line_cannot_say(option: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=rf"^train: {option}: .*; expected .*; pass --{option} "):
        train.train(**{option: value})


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"minigrad {mg.__version__}\n"
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "train" in said
    assert "book" in said
    assert cli.main(["train", "--help"]) == 0
    said = capsys.readouterr().out
    for option in ("epochs", "batch", "lr", "momentum", "hidden", "seed", "check"):
        assert f"--{option}" in said
    assert "(default: 128,64)" in " ".join(said.split())


def test_book_prints_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(["book"]) == 0
    assert capsys.readouterr().out.endswith(" numbers right\n")
    monkeypatch.setattr(numbers, "NUMBERS", (numbers.Number("one", (1.0,), lambda: 1.5, 4, "ULP"),))
    assert cli.main(["book"]) == 1
    assert capsys.readouterr().out.endswith("1 of 1 numbers off\n")


def test_an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real, calls = train.step, []

    def step(*args: Any) -> float:
        calls.append(args)
        if len(calls) == 100:  # in the second epoch
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(train, "step", step)
    assert cli.main(["train", *SMALL]) == 130
    said = capsys.readouterr()
    assert said.err == "minigrad: interrupted\n"
    assert said.out.count("epoch ") == 1
    calls.clear()
    out = Terminal()
    with pytest.raises(KeyboardInterrupt):
        train.train(epochs=2, hidden=(16,), out=out)
    assert out.getvalue().endswith("\n")  # so that what follows begins a line


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(mg.__file__).parent.parent)}
    environment.pop("PYTHONUNBUFFERED", None)  # a buffer is what is left unwritten at the end
    command = [sys.executable, "-m", "minigrad", *words]
    return subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False, **options)


def test_python_m_minigrad_is_the_command() -> None:
    done = run("--version", stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"minigrad {mg.__version__}\n", "")
    assert run("trian", stdout=subprocess.PIPE).returncode == 2


@pytest.mark.skipif(os.name == "nt", reason="pipes of this kind are POSIX")
def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run("book", stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
@pytest.mark.parametrize("words", [["book"], ["--help"], ["train", *SMALL]])
def test_a_full_disk_is_one_sentence(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = run(*words, stdout=full)
    assert done.returncode == 1
    assert re.fullmatch(r"minigrad: cannot write its output: .*No space left.*\n", done.stderr)
