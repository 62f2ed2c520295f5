"""`minigrad gradcheck`: what it finds, draws, prints and returns; and step_size_study, the page on h made visible."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad import cli
from minigrad.errors import ArgumentError, DTypeError
from minigrad.testing import step_size_study

BUGS = Path(__file__).resolve().parent.parent / "docs" / "bugs"

CODE = """
import numpy as np
import minigrad as mg

def square(x):
    return x * x

def two(x, y):
    return mg.multiply(x, mg.exp(y))

def plain(x):
    return np.sin(x)

def rule(dout, x):
    return dout * np.cos(x)

def wrong_rule(dout, x):
    return dout * np.sin(x)

def number(x):
    return 1.0

def fails(x):
    raise KeyError("hm")

class Outer:
    def forward(self, x, t):
        return np.sum((x - t) ** 2)
    def backward(self, dout):
        return dout

class Scale(mg.Op):
    '''out = 2 * x'''
    elementwise = True
    def forward(self, x):
        return 2 * x
    def backward(self, dout):
        return 2 * dout

constant = 3
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mycode.py"
    path.write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(["gradcheck", *words])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["minigrad:sigmoid", "--shape", "3,4", "--order", "2"], "gradcheck: ok ("),
        (["minigrad:tanh"], "tanh: ok ("),
        (["minigrad.book:SoftmaxWithLoss", "--shape", "5,3", "--labels", "5:3"], "SoftmaxWithLoss: ok (15"),
        (["minigrad.book:Relu", "--shape", "4"], "Relu: ok (16"),
        (["mycode.py:square"], "gradcheck: ok ("),
        (["mycode.py:two"], "gradcheck: ok ("),  # two inputs, since it wants two
        (["mycode.py:plain", "--vjp", "mycode.py:rule", "--shape", "()"], "gradcheck: ok (1 comparison)"),
        (["mycode.py:Scale"], "scale: ok ("),
        (["mycode.py:Scale", "--shape", "2,2", "--dtype", "float32"], "gradcheck: ok ("),
        (["mycode.py:square", "--shape", "100", "--scale", "1e-3"], "gradcheck: ok ("),
    ],
)
def test_right_gradients_pass(capsys: pytest.CaptureFixture[str], code: Path, words: list[str], printed: str) -> None:
    status, out, err = run(capsys, *words)
    assert (status, err) == (0, "")
    assert out.startswith(printed)


def test_a_module_of_the_current_folder_is_found(capsys: pytest.CaptureFixture[str], code: Path) -> None:
    assert run(capsys, "mycode:square")[0] == 0


@pytest.mark.parametrize("words", [["mycode.py:plain", "--vjp", "mycode.py:wrong_rule"], ["mycode.py:Outer"]])
def test_wrong_ones_are_refused(capsys: pytest.CaptureFixture[str], code: Path, words: list[str]) -> None:
    status, out, err = run(capsys, *words)
    assert (status, err) == (1, "")
    assert ": wrong (" in out.split("\n")[0]


def test_json_is_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, f"{BUGS / 'tanh.py'}:Tanh", "--json")
    found = json.loads(out)
    assert status == 1
    assert (found["passed"], found["verdict"], found["check"]) == (False, "wrong", "Tanh")
    assert found["counts"]["wrong"] == sum(f["verdict"] == "wrong" for f in found["findings"])


def test_allow_accepts_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["minigrad:relu", "--shape", "3", "--scale", "0"]
    assert run(capsys, *words)[0] == 0  # zeros: kinks, with the gradient between the slopes
    words = ["minigrad:log", "--shape", "3", "--scale", "0"]
    status, out, _ = run(capsys, *words)
    assert status == 1
    assert "domain" in out
    assert run(capsys, *words, "--allow", "domain")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["minigrad:sigmo"], "minigrad has no sigmo; expected a name that it has, such as sigmoid"),
        (["no_such_module:f"], "the module no_such_module, which cannot be found"),
        (["no_such_file.py:f"], "the file no_such_file.py; expected a file that is there"),
        (["minigrad"], "'minigrad'; expected a module or file, and a name in it"),
        (["minigrad:exp", "--shape", "3,x"], "--shape: '3,x'; expected whole numbers with commas between"),
        (["mycode.py:Outer", "--labels", "3"], "--labels: '3'; expected a shape and how many classes"),
        (["mycode.py:constant"], "which is a int; expected a function, an op, or a layer"),
        (["mycode.py:number"], "f returned float 1.0; expected a Tensor, or several"),
        (["mycode.py:Outer", "--order", "2"], "a layer of plain arrays has no second derivative"),
        (["minigrad:exp", "--allow", "wrong"], "allow='wrong'; expected any of aliasing"),
        (["minigrad:exp", "--shape", "2", "--order", "0"], "order: int 0; expected 1 or more"),
    ],
)
def test_wrong_usage_is_one_sentence(
    capsys: pytest.CaptureFixture[str], code: Path, words: list[str], said: str
) -> None:
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err


def test_an_error_in_the_code_under_test_shows_where(capsys: pytest.CaptureFixture[str], code: Path) -> None:
    status, _, err = run(capsys, "mycode.py:fails")
    assert status == 2
    assert 'raise KeyError("hm")' in err
    assert err.endswith("minigrad: mycode.py:fails raised this while it was checked\n")


# step_size_study


def test_the_orders_and_best_steps_are_those_of_the_textbook() -> None:
    study = step_size_study(np.exp, 1.0, np.exp)
    assert study.order("forward") == pytest.approx(1, abs=0.05)
    assert study.order("central") == pytest.approx(2, abs=0.05)
    assert 1e-9 < study.best("forward") < 1e-7
    assert 1e-7 < study.best("central") < 1e-4
    assert study.central[study.h.index(1e-50)] == study.forward[study.h.index(1e-50)] == 1
    assert "best h" in str(study)
    assert math.isnan(step_size_study(lambda x: 3 * x, 0.0, 3.0).order())  # exact for every step


def test_the_plot_is_drawn_and_saved(tmp_path: Path) -> None:
    study = step_size_study(math.sin, 0.5, math.cos(0.5))
    figure = study.plot(tmp_path / "study.png")
    assert (tmp_path / "study.png").stat().st_size > 10_000
    assert figure.axes[0].get_lines()[0].get_label() == "(f(x + h) - f(x)) / h"


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: step_size_study(np.exp, "1", np.exp), DTypeError, "x: str '1'; expected a number"),
        (lambda: step_size_study(lambda x: x * x, 0.0, lambda x: 2 * x), ArgumentError, r"f'\(0\) = 0"),
        (lambda: step_size_study(lambda x: None, 1.0, 1.0), DTypeError, "f returned NoneType None"),
        (lambda: step_size_study(np.exp, 1.0, np.exp).order("backward"), ArgumentError, "method='backward'"),
    ],
)
def test_what_cannot_be_studied_is_an_error(call: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call()
