"""python -m minigrad.book: scripts in the manner of the book's chapters run unchanged; its MNIST; its errors."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad import cli
from minigrad.book import __main__ as runner
from minigrad.book.dataset import mnist
from minigrad.data import load_digits, split

ROOT = Path(__file__).resolve().parent.parent
# Matplotlib falls back to a backend without windows where there is no display; nobody forces one here.
ENVIRON = {
    **{key: value for key, value in os.environ.items() if key not in ("MPLBACKEND", "DISPLAY", "WAYLAND_DISPLAY")},
    "PYTHONPATH": str(ROOT),
    "OPENBLAS_NUM_THREADS": "1",
}

GATES = """
from and_gate import AND
from or_gate import OR
from nand_gate import NAND
from common.gates import XOR

print([AND(NAND(a, b), OR(a, b)) == XOR(a, b) for a in (0, 1) for b in (0, 1)])
"""

CHAPTER_4 = """
import sys, os
sys.path.append(os.pardir)
from common.functions import *
from common.gradient import numerical_gradient
from dataset.mnist import load_mnist


class Net:
    def __init__(self):
        self.params = {"W": 0.01 * np.random.randn(784, 10), "b": np.zeros(10)}

    def predict(self, x):
        return softmax(np.dot(x, self.params["W"]) + self.params["b"])

    def loss(self, x, t):
        return cross_entropy_error(self.predict(x), t)

    def gradient(self, x, t):
        dy = (self.predict(x) - t) / x.shape[0]
        return {"W": np.dot(x.T, dy), "b": np.sum(dy, axis=0)}


np.random.seed(0)
(x_train, t_train), (x_test, t_test) = load_mnist(normalize=True, one_hot_label=True)
net = Net()
batch = np.random.choice(x_train.shape[0], 20)
numerical = numerical_gradient(lambda b: net.loss(x_train[batch], t_train[batch]), net.params["b"])
print(abs(numerical - net.gradient(x_train[batch], t_train[batch])["b"]).max() < 1e-6)
print(relu_grad(np.array([-1.0, 2.0])), sum_squared_error(np.ones(2), np.zeros(2)))
"""

CHAPTER_5 = """
import sys, os
sys.path.append(os.pardir)
import numpy as np
from dataset.mnist import load_mnist
from two_layer_net import TwoLayerNet

(x_train, t_train), (x_test, t_test) = load_mnist(normalize=True, one_hot_label=True)
np.random.seed(1)
network = TwoLayerNet(input_size=784, hidden_size=50, output_size=10)
for i in range(400):
    mask = np.random.choice(x_train.shape[0], 100)
    grad = network.gradient(x_train[mask], t_train[mask])
    for key in ("W1", "b1", "W2", "b2"):
        network.params[key] -= 0.1 * grad[key]
print(network.accuracy(x_test, t_test) > 0.8)
"""

EPOCHS = """
import sys, os
sys.path.append(os.pardir)
import numpy as np
from dataset.mnist import load_mnist
from two_layer_net import TwoLayerNet

(x_train, t_train), (x_test, t_test) = load_mnist(normalize=True, one_hot_label=True)
net = TwoLayerNet(input_size=784, hidden_size=50, output_size=10)
size, batch_size = x_train.shape[0], 100
iter_per_epoch = max(size / batch_size, 1)
for i in range(43):
    mask = np.random.choice(size, batch_size)
    grad = net.gradient(x_train[mask], t_train[mask])
    for key in net.params:
        net.params[key] -= 0.1 * grad[key]
    if i % iter_per_epoch == 0:
        print("epoch", i, net.accuracy(x_train, t_train) >= 0)
"""

MISTAKES = """
import numpy as np
from dataset.mnist import load_mnist, init_mnist
from simple_convnet import SimpleConvNet

init_mnist()
(x_train, t_train), (x_test, t_test) = load_mnist(flatten=False)
net = SimpleConvNet(conv_param={"filter_num": 2, "filter_size": 5, "pad": 0, "stride": 3}, hidden_size=5)
guesses = []
for i in range(int(x_test.shape[0] / 100)):
    guesses.append(np.argmax(net.predict(x_test[i * 100 : (i + 1) * 100]), axis=1))
guesses = np.array(guesses).flatten()
print(sum(bool(wrong) for wrong in guesses != t_test) > 0, guesses.shape)
"""

CHAPTER_6 = """
import sys, os
sys.path.append(os.pardir)
import numpy as np
import matplotlib.pyplot as plt
from collections import OrderedDict
from dataset.mnist import load_mnist
from common.util import smooth_curve, shuffle_dataset
from common.multi_layer_net_extend import MultiLayerNetExtend
from common.optimizer import *
from common.trainer import Trainer

optimizers = OrderedDict(SGD=SGD(lr=0.95), Momentum=Momentum(lr=0.1), AdaGrad=AdaGrad(lr=1.5), Adam=Adam(lr=0.3))
params = {}
for key in optimizers:
    params["x"], params["y"] = -7.0, 2.0
    for _ in range(30):
        optimizers[key].update(params, {"x": params["x"] / 10.0, "y": 2.0 * params["y"]})
    print(key, abs(params["x"]) < 2)

(x_train, t_train), (x_test, t_test) = load_mnist()
x_train, t_train = shuffle_dataset(x_train[:300], t_train[:300])
network = MultiLayerNetExtend(input_size=784, hidden_size_list=[20, 20], output_size=10,
                              use_dropout=True, dropout_ration=0.2, use_batchnorm=True)
trainer = Trainer(network, x_train, t_train, x_test, t_test, epochs=4, mini_batch_size=100,
                  optimizer="adam", optimizer_param={"lr": 0.01}, verbose=True)
trainer.train()
plt.plot(smooth_curve(trainer.train_loss_list))
plt.plot(trainer.train_acc_list, marker="o")
plt.show()
print("shown", len(trainer.test_acc_list))
"""

CHAPTER_7 = """
import sys, os
sys.path.append(os.pardir)
import numpy as np
from dataset.mnist import load_mnist
from simple_convnet import SimpleConvNet
from deep_convnet import DeepConvNet
from common.layers import *
from common.trainer import Trainer

x = np.random.rand(1, 3, 7, 7)
print(im2col(x, 5, 5, stride=1, pad=0).shape, Convolution(np.ones((2, 3, 5, 5)), np.zeros(2)).forward(x).shape)

network = SimpleConvNet(input_dim=(1, 10, 10), conv_param={"filter_num": 2, "filter_size": 3, "pad": 0, "stride": 1},
                        hidden_size=4, output_size=10, weight_init_std=0.1)
X, T = np.random.rand(100).reshape((1, 1, 10, 10)), np.array([1]).reshape((1, 1))
grad_num, grad = network.numerical_gradient(X, T), network.gradient(X, T)
print(max(np.abs(grad_num[key] - grad[key]).mean() for key in grad_num) < 1e-6)

(x_train, t_train), (x_test, t_test) = load_mnist(flatten=False)
network = SimpleConvNet(conv_param={"filter_num": 3, "filter_size": 5, "pad": 0, "stride": 2}, hidden_size=10)
Trainer(network, x_train, t_train, x_test, t_test, epochs=1, mini_batch_size=200, optimizer="Adam",
        optimizer_param={"lr": 0.001}, evaluate_sample_num_per_epoch=100).train()
network.save_params("params.pkl")
other = SimpleConvNet(conv_param={"filter_num": 3, "filter_size": 5, "pad": 0, "stride": 2}, hidden_size=10)
other.load_params("params.pkl")
print(np.array_equal(network.predict(x_test[:5]), other.predict(x_test[:5])), os.path.exists("params.pkl"))
print(DeepConvNet().predict(x_test[:2], train_flg=False).shape)
"""


def run(
    tmp_path: Path, text: str, *args: str, environ: dict[str, str] | None = None, flags: tuple[str, ...] = ()
) -> Any:
    script = tmp_path / "chapter" / "script.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, *flags, "-m", "minigrad.book", "script.py", *args],
        cwd=script.parent,
        env={**ENVIRON, **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def test_gates(tmp_path: Path) -> None:
    done = run(tmp_path, GATES)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[True, True, True, True]\n", "")


def test_chapter_4_takes_np_from_common(tmp_path: Path) -> None:
    done = run(tmp_path, CHAPTER_4)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True", "[0. 1.] 1.0"]
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("minigrad.book: no MNIST files found: 1400 digits of scikit-learn's set")


def test_chapter_5(tmp_path: Path) -> None:
    done = run(tmp_path, CHAPTER_5)
    assert done.stdout == "True\n", done.stderr


def test_an_epoch_is_a_whole_number_of_batches(tmp_path: Path) -> None:  # train_neuralnet.py of chapters 4 and 5
    done = run(tmp_path, EPOCHS)
    assert done.stdout.splitlines() == [f"epoch {i} True" for i in (0, 14, 28, 42)], done.stderr


def test_the_test_digits_are_whole_batches(tmp_path: Path) -> None:  # misclassified_mnist.py of chapter 8
    done = run(tmp_path, MISTAKES)
    assert done.stdout == "True (300,)\n", done.stderr
    assert done.stderr.count("no MNIST files found") == 1  # by init_mnist, and not once more by load_mnist


def test_chapter_6_without_a_display(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = run(tmp_path, CHAPTER_6, environ={"MPLCONFIGDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:4] == ["SGD True", "Momentum True", "AdaGrad True", "Adam True"]
    assert sum(line.startswith("train loss:") for line in lines) == 12
    assert sum(line.startswith("=== epoch:") for line in lines) == 4
    assert lines[-1] == "shown 4"
    assert "UserWarning" not in done.stderr


@pytest.mark.parametrize("environ", [{}, {"MPLBACKEND": "Agg", "DISPLAY": ":99"}], ids=["no display", "Agg"])
def test_show_passes_by_without_a_warning(environ: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nprint('shown')\n"
    done = run(tmp_path, text, environ={"MPLCONFIGDIR": str(tmp_path), **environ}, flags=("-W", "error::UserWarning"))
    assert (done.returncode, done.stdout) == (0, "shown\n"), done.stderr


def test_chapters_7_and_8(tmp_path: Path) -> None:
    done = run(tmp_path, CHAPTER_7)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "(9, 75) (1, 2, 3, 3)"
    assert lines[1] == "True"
    assert lines[-2:] == ["True True", "(2, 10)"]


def test_the_package_alone_under_the_books_name_is_enough(tmp_path: Path) -> None:
    text = (
        "import sys, minigrad.book\nsys.modules['common'] = minigrad.book\n"
        "from common.layers import *\nfrom common.multi_layer_net_extend import MultiLayerNetExtend\n"
        "from common.trainer import Trainer\n"
        "net = MultiLayerNetExtend(4, [5], 3, use_batchnorm=True, use_dropout=True)\n"
        "print(sorted(net.gradient(np.eye(4), np.array([0, 1, 2, 0]))), Trainer.__module__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, check=False
    )
    assert done.stdout == "['W1', 'W2', 'b1', 'b2', 'beta1', 'gamma1'] common.trainer\n", done.stderr


def test_a_script_runs_as_it_would_by_itself(tmp_path: Path) -> None:
    (tmp_path / "chapter").mkdir()
    (tmp_path / "chapter" / "beside.py").write_text("name = __name__\n")
    (tmp_path / "chapter" / "two_layer_net.py").write_text("class TwoLayerNet:\n    mine = True\n")
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "layers.py").write_text("raise RuntimeError('the one on the path')\n")
    text = (
        "import sys, os\nsys.path.append(os.pardir)\nimport beside\nfrom two_layer_net import TwoLayerNet\n"
        "import common.layers\nfrom common import layers\n"
        "print(__name__, os.path.basename(__file__), sys.argv)\n"
        "print(beside.name, TwoLayerNet.mine, layers is common.layers)\n"
        "print(os.getcwd() in sys.path, os.path.samefile(sys.path[0], os.path.dirname(__file__) or '.'))\n"
        "sys.exit(7)\n"
    )
    done = run(tmp_path, text, "--epochs", "3")
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines() == [
        "__main__ script.py ['script.py', '--epochs', '3']",
        "beside True True",
        "True True",
    ]


def test_what_a_script_raises_is_shown(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "from common.layers import Affine\nimport numpy as np\nAffine(np.ones((2, 3)), 0).forward(np.ones((1, 4)))\n",
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("minigrad.errors.ShapeError: matmul: x is float64 (1, 4)")
    assert lines[0] == "Traceback (most recent call last):"
    assert 'script.py", line 3, in <module>' in lines[1]  # not the lines of what runs it
    assert "runpy" not in done.stderr


def test_a_traceback_is_that_of_python_itself(tmp_path: Path) -> None:
    for text in ("def f(:\n", "def f():\n    raise ValueError('why')\n\n\nf()\n", "import sys\nsys.exit('so')\n"):
        done = run(tmp_path, text)
        itself = subprocess.run(
            [sys.executable, "script.py"],
            cwd=tmp_path / "chapter",
            env=ENVIRON,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == itself.returncode == 1
        assert done.stderr == itself.stderr.replace(f"{tmp_path / 'chapter'}{os.sep}", "")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ([], "usage: python -m minigrad.book script.py [arguments]; got no script"),
        (["--fast"], "usage: python -m minigrad.book script.py [arguments]; got --fast"),
        (["missing.py"], "minigrad.book: missing.py: there is no such file; usage: "),
        (["."], "minigrad.book: .: is a directory; usage: "),
    ],
)
def test_usage_errors_are_one_line(args: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(args) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(line)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m minigrad.book script.py")


def test_the_commands_own_numbers_stay() -> None:
    assert cli.main(["book"]) == 0


# dataset.mnist


def idx(folder: Path, n: int, m: int, packed: bool) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("train", n), ("t10k", m)):
        for kind, axes, shape in (("images-idx3", 3, (count, 28, 28)), ("labels-idx1", 1, (count,))):
            values = rng.integers(0, 256 if axes == 3 else 10, shape).astype(np.uint8)
            header = (0x0800 + axes).to_bytes(4, "big") + b"".join(k.to_bytes(4, "big") for k in shape)
            path = folder / f"{name}-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes((gzip.compress if packed else bytes)(header + values.tobytes()))


SHAPES = (
    "from dataset.mnist import load_mnist\n(x, t), (y, u) = load_mnist()\nprint(x.shape, x.dtype, y.shape, u.shape)\n"
)


@pytest.mark.parametrize("where", ["variable", "dataset", "beside the script", "chapter/dataset", "packed"])
def test_files_of_mnist_are_found(where: str, tmp_path: Path) -> None:
    folder = tmp_path / {"variable": "elsewhere", "beside the script": "chapter"}.get(where, where)
    folder = tmp_path / "dataset" if where == "packed" else folder
    folder.mkdir(parents=True)
    idx(folder, 30, 20, packed=where == "packed")
    done = run(tmp_path, SHAPES, environ={"MINIGRAD_MNIST": str(folder)} if where == "variable" else {})
    assert (done.stdout, done.stderr) == ("(30, 784) float32 (20, 784) (20,)\n", "")


def test_a_directory_that_is_named_has_to_have_the_files(tmp_path: Path) -> None:
    done = run(tmp_path, SHAPES, environ={"MINIGRAD_MNIST": str(tmp_path)})
    assert done.returncode == 1
    assert "CheckpointError: load_mnist: path: " in done.stderr
    (tmp_path / "dataset").mkdir()
    idx(tmp_path / "dataset", 30, 20, packed=False)
    (tmp_path / "dataset" / "t10k-labels-idx1-ubyte").unlink()
    assert "t10k-labels-idx1-ubyte not found" in run(tmp_path, SHAPES).stderr


def test_init_mnist_says_where_the_files_are(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    idx(tmp_path / "dataset", 30, 20, packed=False)
    done = run(tmp_path, "from dataset.mnist import init_mnist\ninit_mnist()\n")
    assert done.stderr.startswith("minigrad.book: load_mnist reads the files of MNIST in ")
    assert done.stderr.rstrip().endswith("dataset")
    (tmp_path / "dataset" / "t10k-labels-idx1-ubyte").unlink()
    assert "CheckpointError" in run(tmp_path, "from dataset.mnist import init_mnist\ninit_mnist()\n").stderr


@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("one_hot_label", [True, False])
def test_the_digits_stand_in(
    flatten: bool, normalize: bool, one_hot_label: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIGRAD_MNIST", raising=False)
    parts = mnist.load_mnist(normalize, flatten, one_hot_label)
    for (x, t), n in zip(parts, (1400, 300), strict=True):
        assert x.shape == ((n, 784) if flatten else (n, 1, 28, 28))
        assert x.dtype == (np.float32 if normalize else np.uint8)
        assert x.max() == (1 if normalize else 255)
        assert t.shape == ((n, 10) if one_hot_label else (n,))
        assert t.dtype == (np.float64 if one_hot_label else np.int64)
    again = mnist.load_mnist(normalize, flatten, one_hot_label)
    assert np.array_equal(parts[0][0], again[0][0])
    for (_, t), (_, wanted) in zip(parts, split(*load_digits()), strict=True):
        assert np.array_equal(t.argmax(axis=1) if one_hot_label else t, wanted[: len(t)])


def test_enlarging_interpolates() -> None:
    flat, ramp = np.full((1, 8, 8), 16), np.tile(np.arange(8), (1, 8, 1))
    assert (mnist._enlarged(flat) == 255).all()
    big = mnist._enlarged(ramp).astype(float)
    assert big.shape == (1, 28, 28)
    centres = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    np.testing.assert_allclose(big[0], np.tile(centres * 255 / 16, (28, 1)), atol=0.5)
