"""Old names of modules, functions and classes: they work, and the warning names the new one."""

from __future__ import annotations

import importlib
import sys

import pytest

import densekd.losses
import densekd.moved
import graphkd.data
import graphkd.links
import graphkd.losses
import graphkd.moved
import graphkd.recipes
import graphkd.rules
import kdlosses.policy
import kdlosses.rules
from graphkd.recipes import RECIPES
from graphkd.spec import resolve
from kdlosses.moved import MODULES

NAMES = [
    ("graphkd", graphkd.moved.NAMES),
    ("densekd", densekd.moved.NAMES),
    ("graphkd.data", graphkd.data._MOVED),
    ("graphkd.links", graphkd.links._MOVED),
    ("graphkd.losses", graphkd.losses._MOVED),
    ("densekd.losses", densekd.losses._MOVED),
    ("graphkd.recipes", graphkd.recipes._MOVED),
    ("graphkd.rules", graphkd.rules._MOVED),
    ("kdlosses.policy", kdlosses.policy._MOVED),
    ("graphkd.losses", graphkd.losses._MOVED),
    ("densekd.losses", densekd.losses._MOVED),
]


@pytest.mark.parametrize("old", sorted(MODULES))
def test_an_old_module_is_the_new_one(old: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"^{old} is now {MODULES[old]}; "):
        found = importlib.import_module(old)
    assert found is importlib.import_module(MODULES[old])


def test_the_warning_is_of_the_line_that_imports() -> None:
    sys.modules.pop("graphkd.student", None)
    with pytest.warns(DeprecationWarning, match="^graphkd.student is now ") as found:
        import graphkd.student  # noqa: F401
    assert [each.filename for each in found] == [__file__]


@pytest.mark.parametrize(("module", "name", "new"), [(m, name, table[name]) for m, table in NAMES for name in table])
def test_an_old_name_is_the_new_one(module: str, name: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"^{module}.{name} is now {new}; "):
        found = getattr(importlib.import_module(module), name)
    home, _, attribute = new.rpartition(".")
    assert found is getattr(importlib.import_module(home), attribute)


def test_an_old_module_with_the_name_of_a_function_has_its_parts_and_hides_it_not() -> None:
    with pytest.warns(DeprecationWarning, match=r"^graphkd.rules.mcmi.class_means is now kdlosses.rules.class_means; "):
        from graphkd.rules.mcmi import class_means
    with pytest.warns(DeprecationWarning, match=r"^graphkd.rules.quantise.quantise is now kdlosses.rules.quantise; "):
        from graphkd.rules.quantise import quantise
    assert (class_means, quantise) == (kdlosses.rules.class_means, kdlosses.rules.quantise)
    with pytest.warns(DeprecationWarning, match=r"^graphkd.rules.quantise is now"):
        assert graphkd.rules.quantise is quantise
    with pytest.raises(ImportError):
        from graphkd.rules.rad import nothing  # noqa: F401


@pytest.mark.parametrize("module", ["graphkd", "densekd", "graphkd.data", "graphkd.links", "kdlosses.policy"])
def test_any_other_name_is_unknown(module: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        _ = importlib.import_module(module).nothing


def test_an_old_recipe_is_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match="^the recipe 'best' is now 'refined_teacher'; "):
        recipe, options = resolve("method", {"type": "best", "hops": 2}, RECIPES)
    assert (recipe, options) == (RECIPES["refined_teacher"], {"hops": 2})
