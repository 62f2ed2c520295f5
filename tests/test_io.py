"""minigrad.save and load: what goes in comes out, and the old file stays until the new one is whole."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import minigrad as mg
from minigrad.io.state import DTYPES

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes, links and signals of POSIX")
KNOWN = sorted(DTYPES)


def same(a: Any, b: Any) -> bool:
    """Equal in values, types, dtypes, order of keys, layout and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        layouts = [x.flags.f_contiguous and not x.flags.c_contiguous for x in (a, b)]
        alike = (a.dtype.str, a.shape, layouts[0]) == (b.dtype.str, b.shape, layouts[1])
        return bool(alike and a.tobytes() == b.tobytes())
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a), list(b)) and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def from_bits(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


# Drawn as bits, so that every nan and both zeros occur.
arrays = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3).flatmap(
    lambda shape: st.builds(
        lambda dtype, data, order: (
            np.frombuffer(data[: math.prod(shape) * np.dtype(dtype).itemsize], dtype).reshape(shape).copy(order)
        ),
        st.sampled_from([name for name in KNOWN if name != "|b1"]),
        st.binary(min_size=27 * 16, max_size=27 * 16),
        st.sampled_from(["C", "F"]),
    )
)
booleans = hnp.arrays(np.bool_, hnp.array_shapes(max_side=3))
scalars = arrays.filter(lambda a: a.size > 0).map(lambda a: a.astype(a.dtype.newbyteorder("=")).reshape(-1)[0])
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(1 << 200), max_value=1 << 200),
    st.integers(min_value=0, max_value=(1 << 64) - 1).map(from_bits),
    st.complex_numbers(),
    st.text(max_size=20),
    arrays,
    booleans,
    scalars,
)
states = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=8), st.integers()), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(states)
def test_a_state_loads_as_it_was_saved(state: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state.npz")
        mg.save(state, path)
        loaded = mg.load(path)
        assert same(loaded, state)
        first = Path(path).read_bytes()
        mg.save(loaded, path)
        assert Path(path).read_bytes() == first, "equal states give equal bytes"


def test_same_tells_states_apart() -> None:
    for a, b in [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ([1], (1,)),
        ({1: 2}, {"1": 2}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.zeros(2), np.zeros(2, "f4")),
        (np.zeros(2), np.zeros(2, ">f8")),
        (np.zeros((2, 3)), np.zeros((2, 3), order="F")),
        (np.float64(1), 1.0),
        (from_bits(0x7FF8000000000000), from_bits(0x7FF8000000000001)),
    ]:
        assert same(a, a)
        assert not same(a, b)


@pytest.mark.parametrize("dtype", KNOWN)
def test_every_dtype_and_layout(tmp_path: Path, dtype: str) -> None:
    x = np.arange(24).reshape(2, 3, 4).astype(dtype)
    state = {"c": x, "f": np.asfortranarray(x), "0-d": x[1, 1, 1].reshape(()).astype(dtype), "empty": x[:0]}
    mg.save(state, tmp_path / "a.npz")
    assert same(mg.load(tmp_path / "a.npz"), state)
    for view in x[:, ::-1], x.transpose(1, 0, 2), np.broadcast_to(x[:1], (2, 3, 4)):
        mg.save(view, tmp_path / "a.npz")
        assert same(mg.load(tmp_path / "a.npz"), np.ascontiguousarray(view))


def test_a_tensor_loads_as_an_array_of_one_s_own(tmp_path: Path) -> None:
    t = mg.Tensor([1.0, 2.0], requires_grad=True)
    mg.save([t, t * 2], tmp_path / "a.npz")
    first, second = mg.load(tmp_path / "a.npz")
    assert same(first, t.numpy().copy())
    assert same(second, np.array([2.0, 4.0]))
    first += 1
    assert t.numpy()[0] == 1.0


def test_the_state_of_a_generator_comes_back(tmp_path: Path) -> None:
    for bits in np.random.PCG64(1), np.random.MT19937(1), np.random.Philox(1), np.random.SFC64(1):
        generator = np.random.Generator(bits)
        mg.save(generator.bit_generator.state, tmp_path / "a.npz")
        numbers = generator.random(3)
        generator.bit_generator.state = mg.load(tmp_path / "a.npz")
        assert same(generator.random(3), numbers)


def test_a_large_array_is_read_in_parts(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((700, 701))
    state = {"c": x, "f": np.asfortranarray(x), "bytes": np.arange(3 << 20, dtype=np.uint8)}
    mg.save(state, tmp_path / "a.npz")
    assert same(mg.load(tmp_path / "a.npz"), state)


def test_others_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    state = {"layer": {"0.weight": np.eye(3), "../../etc/passwd": np.ones(2)}, 5: [np.arange(3), {"": np.array(1.5)}]}
    mg.save(state, path)
    with np.load(path, allow_pickle=False) as file:
        read = {name: file[name] for name in file if name != "minigrad.json"}
        manifest = json.loads(bytes(file["minigrad.json"]))
    assert same(read, {"layer/0.weight": np.eye(3), "layer/.._.._etc_passwd": np.ones(2),
                       "5/0": np.arange(3), "5/1/_": np.array(1.5)})  # fmt: skip
    assert (manifest["format"], manifest["version"]) == ("minigrad", 1)
    assert manifest["arrays"][0]["shape"] == [3, 3]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_names_are_told_apart_and_lead_nowhere(tmp_path: Path) -> None:
    keys = [
        "a/b",
        "a_b",
        "a\0b",
        "..",
        ".",
        "",
        "con:",
        "\\",
        "é" * 300,
        "é" * 301,
        3,
        "3",
        "x\n",
        10**5000,
        -(10**5000),
    ]
    state = {key: np.full(2, i) for i, key in enumerate(keys)}
    mg.save({"a": {"b": np.zeros(1)}, **state}, tmp_path / "a.npz")
    loaded = mg.load(tmp_path / "a.npz")
    assert same(loaded, {"a": {"b": np.zeros(1)}, **state})
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        archive.extractall(tmp_path / "out")
    assert names(tmp_path) == ["a.npz", "out"]


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in "a.npz", Path("b.NPZ"), b"c.npz", str(tmp_path / "d e.npz"), "é.npz", "." + "n" * 200 + ".npz":
        mg.save([1], path)  # type: ignore[arg-type]  # bytes are a path too
        assert mg.load(path) == [1]  # type: ignore[arg-type]
    for path in "a", "a.pt", "a.zip", "npz", ".npz", "a\0.npz", 3, None, b"x", "a.npz/":
        for call in (lambda path: mg.save([1], path)), mg.load:
            with pytest.raises(mg.CheckpointError, match="path"):
                call(path)
    with pytest.raises(mg.CheckpointError, match=r"unpickling.*save_file"):
        mg.load("model.pt")
    with pytest.raises(mg.CheckpointError, match=r"directory does not exist.*makedirs"):
        mg.save([1], "nowhere/a.npz")
    with pytest.raises(mg.CheckpointError, match="No such file"):
        mg.load("nowhere/a.npz")
    Path("f.npz").mkdir()
    for call in (lambda path: mg.save([1], path)), mg.load:
        with pytest.raises(mg.CheckpointError, match="a directory"):
            call("f.npz")


class Odd(dict[str, int]):
    """A dict that would not load as what it was."""


ITSELF: list[Any] = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": [object()]}, r"state\['a'\]\[0\]: a builtins.object"),
        (np.array([None]), "dtype object"),
        (np.array([{}, 1]), "dtype object"),
        (np.zeros(2, "i4,f4"), "dtype"),
        (np.array(["a"]), "dtype <U1.*tolist"),
        (np.array(["2020-01-01"], "M8[D]"), "dtype datetime64"),
        (np.ma.array([1], mask=[True]), "MaskedArray"),
        (np.str_("a"), "store str"),
        (Odd(), "Odd.*store dict"),
        (HTTPStatus.OK, "HTTPStatus.*store int"),
        ({1.5: 1}, "key that is float 1.5"),
        ({True: 1}, "key that is bool True"),
        ({(1, 2): 1}, "key that is a tuple"),
        ({1}, "sorted"),
        (b"bytes", "bytes"),
        ("\ud800", "half a character"),
        ({"\udfff": 1}, "half a character"),
        (ITSELF, "nesting that does not end"),
        (mg.sum, "function"),
        ({"text": "x" * (1 << 24)}, "bytes of JSON.*as arrays"),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value[:20],
)
def test_what_cannot_be_stored_is_refused_and_nothing_is_written(tmp_path: Path, state: Any, message: str) -> None:
    mg.save([7], tmp_path / "a.npz")
    with pytest.raises(mg.CheckpointError, match=message):
        mg.save(state, tmp_path / "a.npz")
    assert names(tmp_path) == ["a.npz"]
    assert mg.load(tmp_path / "a.npz") == [7]


def test_long_double_is_refused_by_name(tmp_path: Path) -> None:
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("long double is float64 here")
    for state in np.zeros(2, np.longdouble), np.longdouble(1):
        with pytest.raises(mg.CheckpointError, match=r"longdouble|float128|float96"):
            mg.save(state, tmp_path / "a.npz")


def test_max_bytes(tmp_path: Path) -> None:
    mg.save(np.zeros(100), tmp_path / "a.npz")
    size = (tmp_path / "a.npz").stat().st_size
    assert mg.load(tmp_path / "a.npz", max_bytes=size).shape == (100,)
    with pytest.raises(mg.CheckpointError, match=f"{size} bytes.*max_bytes = {size - 1}"):
        mg.load(tmp_path / "a.npz", max_bytes=size - 1)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_memory_of_saving_and_loading_stays_below_twice_the_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    state = {"x": np.ones((2000, 1000)), "y": np.asfortranarray(np.ones((1000, 1000))), "z": np.ones((2, 9, 9))[:, ::2]}
    tracemalloc.start()
    try:
        if suffix == ".npz":
            mg.save(state, path)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        else:
            pytest.importorskip("safetensors")
            mg.save(state, path)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        loaded = mg.load(path)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert loaded["x"].shape == (2000, 1000)
    assert path.stat().st_size > 24_000_000
    assert peak < 1.2 * path.stat().st_size


# Replacing the file.


@POSIX
def test_the_mode_of_the_old_file_is_kept_and_a_new_one_follows_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    before = os.umask(0o027)
    try:
        mg.save([1], path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        for mode in 0o600, 0o664, 0o777:
            path.chmod(mode)
            mg.save([2], path)
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


@POSIX
def test_a_link_is_kept_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link.npz").symlink_to("far/other.bin")
    for state in [1], [2]:
        mg.save(state, tmp_path / "link.npz")
        assert (tmp_path / "link.npz").is_symlink()
        assert mg.load(tmp_path / "link.npz") == state
        assert names(tmp_path / "far") == ["other.bin"]
    (tmp_path / "round.npz").symlink_to("round.npz")
    for call in (lambda path: mg.save([1], path)), mg.load:
        with pytest.raises(mg.CheckpointError):
            call(tmp_path / "round.npz")


@POSIX
def test_what_is_no_file_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    (tmp_path / "null.npz").symlink_to("/dev/null")
    for name in "a.npz", "null.npz":
        for call in (lambda path: mg.save([1], path)), mg.load:
            with pytest.raises(mg.CheckpointError, match="no regular file"):
                call(tmp_path / name)
    assert names(tmp_path) == ["a.npz", "null.npz"]


@POSIX
def test_root_does_not_take_a_file_from_its_owner(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a file away, and so set this up")
    mg.save([1], tmp_path / "a.npz")
    os.chown(tmp_path / "a.npz", 65534, 65534)
    mg.save([2], tmp_path / "a.npz")
    found = (tmp_path / "a.npz").stat()
    assert (found.st_uid, found.st_gid) == (65534, 65534)


def test_threads_save_beside_each_other(tmp_path: Path) -> None:
    """A sweep that took another thread's file for a dead process's would make that thread's save fail."""
    with ThreadPoolExecutor(4) as pool:
        saves = [pool.submit(mg.save, [i, np.ones(1000)], tmp_path / f"{i % 3}.npz") for i in range(60)]
        for save in saves:
            save.result()
    assert names(tmp_path) == ["0.npz", "1.npz", "2.npz"]
    assert {mg.load(tmp_path / name)[0] % 3 for name in names(tmp_path)} == {0, 1, 2}


STEPS = ["open", "write", "lseek", "fsync", "replace"]


def saved_with(monkeypatch: pytest.MonkeyPatch, step: str, number: int, error: BaseException, path: Path) -> bool:
    """Saves while the number-th call of os.<step> raises error; whether there was such a call."""
    real, count = getattr(os, step), 0

    def planted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            raise error
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, step, planted)
        mg.save({"new": np.ones(9)}, path)
    return count >= number


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("old", [True, False], ids=["replacing", "new"])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "the disk is full.*free some space"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "refused.*Permission denied"),
        (KeyboardInterrupt(), ""),
    ],
    ids=["full", "permission", "interrupt"],
)
def test_an_error_at_any_step_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, old: bool, error: BaseException, message: str
) -> None:
    path, number = tmp_path / "a.npz", 0
    while True:
        number += 1
        path.unlink(missing_ok=True)
        if old:
            mg.save(["old"], path)
        raised: BaseException | None = None
        try:
            called = saved_with(monkeypatch, step, number, error, path)
        except (mg.CheckpointError, KeyboardInterrupt) as what:
            called, raised = True, what
        if not called:
            break
        interrupted = isinstance(error, KeyboardInterrupt)
        if step in ("fsync", "open") and number == 2:  # of the directory, when the new file is in its place
            assert mg.load(path)["new"].sum() == 9
            if isinstance(error, PermissionError):  # a directory that may not be read, or not be synchronised
                assert raised is None
            else:
                assert raised is error if interrupted else "new file is in place" in str(raised)
            continue
        assert raised is error if interrupted else isinstance(raised, mg.CheckpointError)
        assert names(tmp_path) == (["a.npz"] if old else [])
        assert not old or mg.load(path) == ["old"]
        if not interrupted:
            assert ("untouched" if old else "there is no file") in str(raised)
            assert re.search(message, str(raised))
    assert number > 1
    assert names(tmp_path) == ["a.npz"]


@POSIX
def test_the_file_is_synchronised_before_it_takes_its_place_and_the_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(fd: int) -> None:
        calls.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else f"file of {os.fstat(fd).st_size}")
        real_fsync(fd)

    def replace(a: Any, b: Any) -> None:
        calls.append("replace")
        assert os.path.dirname(a) == os.path.dirname(b)
        real_replace(a, b)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    mg.save(np.zeros(3), tmp_path / "a.npz")
    assert calls == [f"file of {(tmp_path / 'a.npz').stat().st_size}", "replace", "directory"]


def run(script: str, *args: object) -> str:
    """What a script, run by a process of its own, prints."""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


FULL = """
import resource, signal, sys
import numpy as np
import minigrad as mg
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    mg.save(np.zeros(50_000), sys.argv[1])
except mg.CheckpointError as error:
    print(error)
"""


@POSIX
def test_a_file_that_may_not_grow_so_far(tmp_path: Path) -> None:
    mg.save(["old"], tmp_path / "a.npz")
    assert "the file is too large" in run(FULL, tmp_path / "a.npz")
    assert names(tmp_path) == ["a.npz"]
    assert mg.load(tmp_path / "a.npz") == ["old"]


DENIED = """
import os, sys
import minigrad as mg
import minigrad.io.npz  # while its file can be read
folder = sys.argv[1]
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for name in "there.npz", "new.npz", "protected/there.npz":
    try:
        mg.save(["new"], f"{folder}/{name}")
    except mg.CheckpointError as error:
        print(error.got)
try:
    mg.load(f"{folder}/secret.npz")
except mg.CheckpointError as error:
    print(error.got)
"""


@POSIX
def test_permission_denied() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which others may not enter
        root = Path(folder)
        (root / "protected").mkdir()
        for name in "there.npz", "secret.npz", "protected/there.npz":
            mg.save(["old"], root / name)
        (root / "secret.npz").chmod(0)
        (root / "there.npz").chmod(0o666)
        (root / "protected/there.npz").chmod(0o444)
        (root / "protected").chmod(0o777)
        root.chmod(0o555)
        told = run(DENIED, folder).splitlines()
        root.chmod(0o755)
        assert len(told) == 4, told
        assert all("Permission denied" in line for line in told)
        assert ["untouched" in line for line in told] == [True, False, True, False]
        assert names(root) == ["protected", "secret.npz", "there.npz"]
        assert names(root / "protected") == ["there.npz"]
        assert mg.load(root / "protected/there.npz") == mg.load(root / "there.npz") == ["old"]


# Temporary files of killed processes.


def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@POSIX
def test_only_what_dead_processes_left_is_swept(tmp_path: Path) -> None:
    import fcntl

    gone, other, token = dead_process(), os.getppid(), "0123456789abcdef"
    kept = [
        f".minigrad-{other}-{token}.tmp",  # a process that lives
        f".minigrad-{gone}-{'f' * 16}.tmp",  # locked: alive in another container
        f".minigrad-{gone}-{token}.tmp.npz",
        f".minigrad-{gone}-short.tmp",
        f"minigrad-{gone}-{token}.tmp",
        f".other-{gone}-{token}.tmp",
    ]
    swept = [f".minigrad-{gone}-{token}.tmp", f".minigrad-{os.getpid()}-{token}.tmp"]
    for name in kept + swept:
        (tmp_path / name).write_bytes(b"half")
    target = tmp_path / f".minigrad-{gone}-{'a' * 16}.tmp"
    target.symlink_to("elsewhere")
    with open(tmp_path / kept[1], "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        mg.save([1], tmp_path / "a.npz")
    assert set(names(tmp_path)) == {"a.npz", target.name, *kept}


KILLED = """
import os, random, signal, sys, time
import numpy as np
import minigrad as mg

folder, count = sys.argv[1], int(sys.argv[2])
path = f"{folder}/a.npz"

def state(k):
    return {"k": k, "x": np.full(100_000, float(k)), "more": [np.full(7, k), {"text": "x" * k}]}

def load():
    found = mg.load(path)
    k = found["k"]
    assert (found["x"] == k).all() and (found["more"][0] == k).all() and len(found["more"][1]["text"]) == k
    return k

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid

def killed(pid):
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])

def left():
    return len(os.listdir(folder)) - 1

mg.save(state(0), path)
draw = random.Random(0)
span = 0.002  # seconds; soon about as long as a save takes, however busy the machine is
deaths = leftovers = new = 0
for k in range(1, count + 1):
    old = load()
    read, write = os.pipe()
    def work():
        os.write(write, b"!")
        mg.save(state(k), path)
        signal.pause()
    pid = child(work)
    os.read(read, 1)
    moment = time.perf_counter() + draw.random() * span
    while time.perf_counter() < moment:
        pass
    os.kill(pid, signal.SIGKILL)
    deaths += killed(pid)
    os.close(read), os.close(write)
    found = load()
    assert found in (old, k), (found, old, k)
    new += found == k
    span *= 0.8 if found == k else 1.2
    leftovers += left()
    mg.save(state(found), path)
    assert left() == 0, os.listdir(folder)
print(deaths, leftovers, new)

# And at every call to the system, before it and after it.
steps = ["open", "write", "lseek", "fsync", "replace", "unlink", "close"]
number = places = 0
while True:
    number += 1
    mg.save(state(0), path)
    def work():
        calls = 0
        def deadly(real):
            def call(*args, **kwargs):
                nonlocal calls
                calls += 1
                if calls == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = real(*args, **kwargs)
                calls += 1
                if calls == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result
            return call
        for name in steps:
            setattr(os, name, deadly(getattr(os, name)))
        mg.save(state(1), path)
    died = killed(child(work))
    assert load() in (0, 1)
    mg.save(state(0), path)
    assert left() == 0, os.listdir(folder)
    if not died:
        break
    places += 1
print(places)
"""


@POSIX
def test_a_process_killed_while_saving_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """100 children die by SIGKILL at drawn moments, and then one more before and after each call to the system."""
    drawn, places = run(KILLED, tmp_path, 100).splitlines()
    deaths, leftovers, new = map(int, drawn.split())
    assert deaths == 100
    assert leftovers > 0, "some of them died in the middle"
    assert 0 < new < 100
    assert int(places) > 30


SHARED = """
import os, sys
import numpy as np
import minigrad as mg

path, count = sys.argv[1], int(sys.argv[2])
mg.save({"who": 0, "x": np.zeros(50_000)}, path)
writers = []
for who in 1, 2:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for i in range(count):
                n = 1000 * who + i
                mg.save({"who": n, "x": np.full(50_000 + who, float(n))}, path)
            status = 0
        finally:
            os._exit(status)
    writers.append(pid)
seen = set()
while writers:
    state = mg.load(path)
    assert (state["x"] == state["who"]).all() and len(state["x"]) == 50_000 + state["who"] // 1000
    seen.add(state["who"])
    for pid in list(writers):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0
            writers.remove(pid)
assert mg.load(path)["who"] % 1000 == count - 1
assert len(os.listdir(os.path.dirname(path))) == 1, os.listdir(os.path.dirname(path))
print(len(seen))
"""


@POSIX
def test_two_writers_and_a_reader_never_see_a_broken_file(tmp_path: Path) -> None:
    assert int(run(SHARED, tmp_path / "a.npz", 100)) > 10


# .safetensors


def test_safetensors_both_ways(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "a.safetensors"
    codes = [name for name in KNOWN if name not in ("<c16", ">c16")]
    state: dict[str, Any] = {name: np.arange(6).reshape(2, 3).astype(name) for name in codes}
    state |= {"f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "view": np.arange(9)[::2], "0-d": np.array(1.5)}
    state |= {"empty": np.empty((0, 3), "f4"), "é": np.array([-0.0, from_bits(0x7FF8000000000001)])}
    mg.save({**state, "t": mg.Tensor([1.0, 2.0])}, path)
    state["t"] = np.array([1.0, 2.0])
    expected = {
        name: np.ascontiguousarray(a).reshape(a.shape).astype(a.dtype.newbyteorder("<")) for name, a in state.items()
    }
    for loaded in mg.load(path), library.load_file(path):
        assert loaded.keys() == expected.keys()
        assert all(same(np.array(loaded[name]), array) for name, array in expected.items())
    first = path.read_bytes()
    mg.save(dict(reversed(state.items())), path)
    assert path.read_bytes() == first
    library.save_file(expected, path, metadata={"format": "np"})
    assert all(same(array, expected[name]) for name, array in mg.load(path).items())


def test_safetensors_takes_a_flat_dict_of_arrays(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    for state in (
        [1],
        {"a": {"b": np.ones(2)}},
        {"a": 1},
        {1: np.ones(2)},
        {"__metadata__": np.ones(2)},
        {"a": np.ones(2) * 1j},
    ):
        with pytest.raises(mg.CheckpointError, match=r"save to a path that ends in \.npz"):
            mg.save(state, tmp_path / "a.safetensors")
    with pytest.raises(mg.CheckpointError, match="dtype object"):
        mg.save({"a": np.array([None])}, tmp_path / "a.safetensors")
    assert names(tmp_path) == []
    mg.save({}, tmp_path / "a.safetensors")
    assert mg.load(tmp_path / "a.safetensors") == {}


def test_bfloat16_and_what_numpy_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    exact = np.array([[1.0, -2.5, np.inf], [3.140625, -0.0, np.nan]], "<f4")
    half = (exact.view("<u4") >> 16).astype("<u2").tobytes()
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + half)
    assert same(mg.load(path), {"w": exact})
    many = np.arange(1_300_000, dtype="<u2")
    header = json.dumps({"w": {"dtype": "BF16", "shape": [many.size], "data_offsets": [0, many.nbytes]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + many.tobytes())
    assert same(mg.load(path)["w"].view("<u4"), many.astype("<u4") << 16)
    path.write_bytes(path.read_bytes().replace(b"BF16", b"F8_X"))
    with pytest.raises(mg.CheckpointError, match="dtype 'F8_X'"):
        mg.load(path)


def test_safetensors_of_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    exchange = pytest.importorskip("safetensors.torch")
    path = tmp_path / "a.safetensors"
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
    tensors = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in kinds}
    exchange.save_file(tensors, path, metadata={"format": "pt"})
    loaded = mg.load(path)
    for name, tensor in tensors.items():
        wanted = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        assert same(loaded[name], wanted.numpy())
    mg.save(loaded, path)
    back = exchange.load_file(path)
    assert all(torch.equal(back[name], tensor.to(back[name].dtype)) for name, tensor in tensors.items())


def test_without_the_library_safetensors_load_and_the_error_of_saving_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    header = b'{"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<d", 1.5))
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    assert same(mg.load(path), {"a": np.array(1.5)})
    with pytest.raises(ImportError, match="pip install safetensors"):
        mg.save({"a": np.ones(2)}, path)
    assert mg.load(path)["a"] == 1.5
