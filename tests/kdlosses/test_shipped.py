"""Configs by name, in a clone and installed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from kdlosses.shipped import Shipped


@pytest.fixture(params=["clone", "wheel"])
def shipped(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shipped:
    """A package with three configs and one row."""
    home = tmp_path / "fruit"
    home.mkdir()
    (home / "__init__.py").write_text("")
    configs = tmp_path / "configs" if request.param == "clone" else home / ".mim" / "configs"
    for name in ("red/apple.py", "red/cherry.py", "green/lime.py", "_base_/tree.py"):
        (configs / name).parent.mkdir(parents=True, exist_ok=True)
        (configs / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "fruit", raising=False)
    return Shipped("fruit", ("red", "green"), ["green/kiwi.py"])


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("fruit::red/apple.py", "red/apple.py"),
        ("fruit::red/apple", "red/apple.py"),
        ("red/apple.py", "red/apple.py"),
        ("apple", "red/apple.py"),
        ("fruit::apple", "red/apple.py"),
        ("green/kiwi", "green/kiwi.py"),
        ("fruit::_base_/tree.py", "_base_/tree.py"),
    ],
)
def test_a_name(shipped: Shipped, name: str, path: str) -> None:
    assert shipped.find(name) == shipped.folder / path


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fruit::red/aple.py", "; did you mean fruit::red/apple.py?"),
        ("cherri", "; did you mean fruit::cherry.py?"),
        ("green/kiwis.py", "; did you mean fruit::green/kiwi.py?"),
        ("lime", ""),
        ("fruit::", ""),
        ("../fruit/__init__.py", ""),
    ],
)
def test_no_name(shipped: Shipped, name: str, hint: str) -> None:
    with pytest.raises(FileNotFoundError) as found:
        shipped.find(name)
    assert str(found.value) == f"there is no config {name}{hint}"
    with pytest.raises(argparse.ArgumentTypeError, match="there is no config"):
        shipped.argument(name)


def test_an_argument_is_a_file_before_it_is_a_name(shipped: Shipped, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped.argument("apple") == shipped.folder / "red/apple.py"
    Path("apple").write_text("")
    assert shipped.argument("apple") == Path("apple")


def test_all_names_and_patterns(shipped: Shipped) -> None:
    assert shipped.names == ["green/kiwi.py", "green/lime.py", "red/apple.py", "red/cherry.py"]
    assert shipped.matching("*/*i*") == ["fruit::green/kiwi.py", "fruit::green/lime.py"]


def test_a_package_without_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FileNotFoundError, match="empty is here without its configs"):
        Shipped("empty", ("red",)).find("apple")


def test_the_name_of_another_package(shipped: Shipped) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"^config stone::red/apple\.py is of stone; this reads files and fruit::"
    ):
        shipped.find("stone::red/apple.py")
