"""The structure: what docs/architecture.md says of it, what can be imported, and from where."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

import loadgen

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has imported nothing yet, away from the checkout."""
    return subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=False)


def test_the_table_of_layers_is_the_import_contract() -> None:
    (contract,) = (c for c in CONTRACTS if c["id"] == "layers")
    table = (ROOT / "docs" / "architecture.md").read_text().partition("| layer |")[2].partition("\n\n")[0]
    rows = [re.findall(r"`(loadgen\.\w+)`", line.split("|")[1]) for line in table.splitlines()[2:]]
    assert rows == [layer.split(" | ") for layer in contract["layers"]]


def test_each_package_and_module_has_a_layer() -> None:
    (contract,) = (c for c in CONTRACTS if c["id"] == "layers")
    placed = {name for layer in contract["layers"] for name in layer.split(" | ")}
    found = {f"loadgen.{path.stem}" for path in (ROOT / "loadgen").iterdir() if path.suffix in {"", ".py"}}
    copied = "loadgen.locustfiles"  # no package: files that users copy
    assert found - placed - {"loadgen.__pycache__", copied} == {"loadgen.__init__", "loadgen.moved"}


def test_importing_the_package_imports_neither_locust_nor_gevent() -> None:
    done = python("import sys, loadgen; assert not {'locust', 'gevent', 'numpy'} & sys.modules.keys()")
    assert (done.returncode, done.stderr) == (0, "")


def test_every_public_name_can_be_imported_and_the_package_is_typed() -> None:
    done = python(f"from loadgen import {', '.join(loadgen.__all__)}")
    assert (done.returncode, done.stderr) == (0, "")
    assert (ROOT / "loadgen" / "py.typed").exists()
    assert dir(loadgen) == sorted(loadgen.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = loadgen.nothing


def test_the_old_name_of_a_module_is_an_error_that_gives_the_new_one() -> None:
    code = """
import importlib
from loadgen import moved
for old, new in moved.MODULES.items():
    try:
        importlib.import_module(old)
    except ModuleNotFoundError as error:
        assert str(error) == f"{old} is now {new}", error
    else:
        raise AssertionError(old)
    importlib.import_module(new.partition(" ")[0])
"""
    done = python(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_old_name_of_a_user_class_is_an_error_that_gives_the_new_one() -> None:
    done = python("from loadgen.harness import RampedUser")
    assert "loadgen.harness.RampedUser is now loadgen.SweepUser" in done.stderr


def test_engines_are_installed_below_the_package_and_nowhere_else() -> None:
    done = python("import loadgen.engines.simulated, loadgen.engines.engine; import engines")
    assert "No module named 'engines'" in done.stderr
    found = python(f"from setuptools import find_packages; print(*find_packages({str(ROOT)!r}, include=['loadgen*']))")
    packages = found.stdout.split()
    assert "loadgen.engines.simulated" in packages
    assert all(name.split(".")[0] == "loadgen" for name in packages)


@pytest.mark.parametrize("package", ["wire", "protocol"])
def test_the_core_names_no_option(package: str) -> None:
    named = {
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "loadgen" / package).glob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"(?<![\w-])--[a-z]", line)
    }
    assert named == set()


def test_the_wire_knows_no_api() -> None:
    text = "".join(path.read_text() for path in (ROOT / "loadgen" / "wire").glob("*.py"))
    for word in ("[DONE]", "choices", "finish_reason", "/v1/chat"):
        assert word not in text


def assigned_callables(code: str) -> list[str]:
    """Assignments of functions to attributes of other objects than self."""
    tree = ast.parse(code)
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        others = [t for t in targets if isinstance(t, ast.Attribute) and ast.unparse(t.value) != "self"]
        if others and is_callable(node.value, functions):
            found.append(ast.unparse(node))
    return found


def is_callable(value: ast.expr, functions: set[str]) -> bool:
    match value:
        case ast.Lambda():
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in functions
        case ast.Call(func=ast.Name(id="partial" | "wraps")):
            return True
    return False


def test_no_callable_is_assigned_to_another_objects_attribute_but_in_patches_of_locust() -> None:
    found = {
        path.name: calls
        for package in ("run", "harness")
        for path in sorted((ROOT / "loadgen" / package).rglob("*.py"))
        if (calls := assigned_callables(path.read_text()))
    }
    assert set(found) == {"locust_patches.py"}, found


def test_nothing_but_a_load_model_asks_which_kind_a_run_is() -> None:
    compared = re.compile(r"\bkind(\"\])? (==|!=|is|in) ")
    files = [
        path
        for package in ("run", "harness", "live", "results", "measure")
        for path in (ROOT / "loadgen" / package).rglob("*.py")
    ]
    assert not [path.name for path in files if compared.search(path.read_text())]
