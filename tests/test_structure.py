"""The package's shape: layers, public names, documentation, and what an import costs."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import minigrad as mg
from minigrad import errors, tape, tensor, testing
from minigrad.op import Op, registry

PACKAGE = Path(mg.__file__).parent

# Each layer may import from the ones above it in this list, and from itself where that makes no cycle.
LAYERS = [
    [
        "minigrad.errors",
        "minigrad.watch",
        "minigrad.sums",
        "minigrad.selection",
        "minigrad.standin",
        "minigrad.threads",
        "minigrad.pool",
    ],
    ["minigrad.tape", "minigrad.contract", "minigrad.dispatch"],
    ["minigrad.tensor", "minigrad.autograd"],
    ["minigrad.op"],
    ["minigrad.ops"],
    ["minigrad.func", "minigrad.unfused", "minigrad.random", "minigrad.io", "minigrad.recompute"],
    ["minigrad"],
]


def layer(module: str) -> int:
    """The number of a module's layer: 0 is the lowest; whatever is not listed belongs to the users, on top."""
    if module == "minigrad":
        return len(LAYERS) - 1
    for number, names in enumerate(LAYERS[:-1]):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return number
    return len(LAYERS)


def sources() -> dict[str, Path]:
    """The path of every module of the package, by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.AST, known: set[str]) -> set[str]:
    """The package's modules that a module imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import, line {node.lineno}"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in known else str(node.module))
    return found & known


MODULES = sources()
IMPORTS = {name: imports(ast.parse(path.read_text()), set(MODULES)) for name, path in MODULES.items()}


def points_up(graph: dict[str, set[str]]) -> list[str]:
    """Imports that go from a lower layer to a higher one."""
    return [f"{a} -> {b}" for a, targets in graph.items() for b in sorted(targets) if layer(b) > layer(a)]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; none where there is no circle."""
    left = {name: set(targets) for name, targets in graph.items()}
    while True:
        free = [name for name, targets in left.items() if not targets & left.keys()]
        if not free:
            return sorted(left)
        for name in free:
            del left[name]


def test_imports_point_down() -> None:
    assert points_up(IMPORTS) == []


def test_imports_make_no_cycle() -> None:
    assert cycle(IMPORTS) == []


def test_the_layer_test_sees_an_import_that_points_up_or_round() -> None:
    known = {"minigrad.ops", "minigrad.tape", "minigrad.tensor", "minigrad.errors"}
    inside = "def f():\n    if True:\n        from minigrad import ops"
    assert points_up({"minigrad.tensor": imports(ast.parse(inside), known)}) == ["minigrad.tensor -> minigrad.ops"]
    by_name = imports(ast.parse("import minigrad.tensor\nfrom minigrad.errors import ShapeError"), known)
    assert points_up({"minigrad.tape": by_name}) == ["minigrad.tape -> minigrad.tensor"]
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "d"]


def test_tensor_and_below_know_nothing_of_ops() -> None:
    for module in errors, tape, tensor:
        assert not {name for name in IMPORTS[module.__name__] if name.startswith("minigrad.op")}


def literal_all(path: Path) -> list[str] | None:
    """A module's __all__, if it is written out as a list of strings."""
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and any(getattr(t, "id", "") == "__all__" for t in targets):
            return list(ast.literal_eval(node.value))  # type: ignore[arg-type]
    return None


STARRED = sorted(
    {
        node.module
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*" and node.module != "minigrad.ops"
    }
)


def test_there_are_starred_imports_to_look_at() -> None:
    assert "minigrad.ops.elementwise" in STARRED


@pytest.mark.parametrize("module", STARRED)
def test_a_starred_module_writes_its_all_out(module: str) -> None:
    names = literal_all(MODULES[module])
    assert names
    assert len(names) == len(set(names))
    assert all(hasattr(importlib.import_module(module), name) for name in names)


def public_names(module: Any) -> list[str]:
    return [name for name in module.__all__ if not name.startswith("_")]


def test_the_package_names_every_op_once() -> None:
    assert len(mg.__all__) == len(set(mg.__all__))
    assert all(hasattr(mg, name) for name in mg.__all__)


@pytest.mark.parametrize("op", list(registry()), ids=lambda op: op.name)
def test_an_op_is_public_documented_and_answers_for_itself(op: type[Op]) -> None:
    assert op.name in mg.__all__
    function = getattr(mg, op.name)
    assert function is op.function
    assert function.__module__ == op.__module__
    doc = inspect.getdoc(function)
    assert doc
    assert doc.startswith(("out", "loss")), "the first line is the formula"
    assert ">>> " in doc
    assert tensor.TABLE[op.name] is function
    for answer in op.answers:
        assert tensor.ANSWERS[answer] is function
    assert op.__call__ is not Op.__call__


def test_every_subclass_of_op_in_the_package_is_registered() -> None:
    found, queue = set(), [Op]
    for cls in queue:
        queue += cls.__subclasses__()
        concrete = hasattr(cls, "forward") and hasattr(cls, "backward")
        if concrete and cls.__module__.startswith("minigrad.ops"):
            found.add(cls)
    assert found == {op for op in registry() if op.__module__.startswith("minigrad.ops")}


@pytest.mark.parametrize("name", public_names(mg))
def test_a_public_name_is_documented_with_an_example(name: str) -> None:
    thing = getattr(mg, name)
    doc = inspect.getdoc(thing)
    assert doc, name
    is_error = inspect.isclass(thing) and issubclass(thing, mg.MinigradError)
    if inspect.ismodule(thing) or is_error or "no derivative" in doc:
        return
    assert ">>> " in doc, name


@pytest.mark.parametrize("name", [name for name in public_names(testing) if name != "VERDICTS"])
def test_a_public_name_of_testing_is_documented(name: str) -> None:
    thing = getattr(testing, name)
    doc = inspect.getdoc(thing)
    assert doc
    assert ">>> " in doc or dataclasses.is_dataclass(thing)


PARTS = [importlib.import_module(f"minigrad.{part}") for part in ("nn", "nn.init", "optim", "data", "train", "book")]


@pytest.mark.parametrize(
    ("part", "name"),
    [(part, name) for part in PARTS for name in public_names(part)],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_a_public_name_of_a_part_is_documented_with_an_example(part: Any, name: str) -> None:
    thing = getattr(part, name)
    if inspect.ismodule(thing) or not callable(thing):
        return
    doc = inspect.getdoc(thing)
    assert doc
    assert ">>> " in doc


@pytest.mark.parametrize("member", [name for name in vars(mg.Tensor) if not name.startswith("_")])
def test_a_member_of_tensor_is_documented(member: str) -> None:
    thing = vars(mg.Tensor)[member]
    if not inspect.ismemberdescriptor(thing):
        assert inspect.getdoc(thing), member


def test_methods_of_tensor_find_their_op_in_the_table() -> None:
    text = ast.parse(inspect.getsource(tensor))
    used = {
        node.slice.value
        for node in ast.walk(text)
        if isinstance(node, ast.Subscript)
        and getattr(node.value, "id", "") == "_OPS"
        and isinstance(node.slice, ast.Constant)
    }
    assert len(used) > 20
    assert used <= tensor.TABLE.keys()


LOADED = """
import sys
import numpy
before = set(sys.modules)
import minigrad
print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))
"""


def test_import_minigrad_imports_only_numpy_and_the_standard_library() -> None:
    run = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "minigrad" in loaded
    assert loaded - {"minigrad", "numpy"} <= sys.stdlib_module_names


def test_tape_tensor_and_op_can_be_imported_on_their_own() -> None:
    for module in "errors", "tape", "tensor", "op", "ops", "func", "unfused":
        run = subprocess.run(
            [sys.executable, "-c", f"import minigrad.{module}"], capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
