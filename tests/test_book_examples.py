"""docs/book: every example runs, with tiny settings, writes its picture and prints what it found."""

from __future__ import annotations

import runpy
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "book"
PAGE = FOLDER.parent / "book.md"
TINY = {
    "batch_norm": ["--epochs", "1"],
    "convnet_filters": ["--epochs", "1", "--samples", "100"],
    "deep_convnet_digits": ["--epochs", "1", "--samples", "100"],
    "dropout": ["--epochs", "2"],
    "hyperparameters": ["--trials", "3", "--epochs", "2"],
    "optimizers_digits": ["--steps", "12"],
    "optimizers_paths": ["--steps", "5"],
    "weight_decay": ["--epochs", "2"],
    "weight_init_activations": ["--samples", "50"],
    "weight_init_digits": ["--steps", "12"],
}


def test_every_example_is_run_here_and_shown_on_the_page() -> None:
    scripts = {path.stem for path in FOLDER.glob("*.py")} - {"shared"}
    assert scripts == set(TINY) == {path.stem for path in FOLDER.glob("*.png")}
    page = PAGE.read_text(encoding="utf-8")
    for name in scripts:
        assert f"](book/{name}.png)" in page
        assert f"python docs/book/{name}.py" in page
        assert (FOLDER / f"{name}.png").stat().st_size < 60_000


@pytest.mark.parametrize("name", TINY)
def test_the_example_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "shared", raising=False)
    out = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", [f"{name}.py", str(out), *TINY[name]])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert out.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) > 1
    assert printed[-1] == f"picture: {out}"
    assert "section" in Path(FOLDER / f"{name}.py").read_text(encoding="utf-8").split('"""')[1]


@pytest.mark.parametrize("flags", [[], ["--write"]])
def test_the_pictures_of_the_page_are_written_on_request_alone(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "docs" / "optimizers_paths.py"
    script.parent.mkdir()
    for name in (script.name, "shared.py"):
        (script.parent / name).write_bytes((FOLDER / name).read_bytes())
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.delitem(sys.modules, "shared", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [script.name, "--steps", "2", *flags])
    runpy.run_path(str(script), run_name="__main__")
    out = script.with_suffix(".png") if flags else tmp_path / "optimizers_paths.png"
    assert list(tmp_path.rglob("*.png")) == [out]
    assert capsys.readouterr().out.splitlines()[-1] == f"picture: {out}"
