"""The floors of the house: what may import what, and what the wheel holds."""

import ast
import tomllib

import pytest

from tests.conftest import ROOT

ALLOWED = {
    "harness": {"harness", "retrievers", "models", "reports"},
    "retrievers": {"retrievers", "models"},
    "models": {"models"},
    "reports": {"reports"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield f"{node.module}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_run_down_the_floors_only(package):
    for path in modules(package):
        ours = {name.split(".")[0] for name in imports(path)} & (ALLOWED.keys() | {"tests"})
        assert ours <= ALLOWED[package], path


def test_there_are_no_circles():
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in ALLOWED
        for path in modules(package)
    }
    graph = {name: {n for n in imports(path) if n in names and n != name} for name, path in names.items()}
    done: set[str] = set()

    def visit(name, way):
        assert name not in way, f"a circle: {' -> '.join([*way, name])}"
        if name not in done:
            for other in graph[name]:
                visit(other, [*way, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_reports_do_not_need_torch():
    assert not {name.split(".")[0] for path in modules("reports") for name in imports(path)} & {"torch", "transformers"}


def test_the_wheel_lists_exactly_the_four_packages():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(ALLOWED)


def test_modules_stay_short():
    assert {path: n for p in ALLOWED for path in modules(p) if (n := len(path.read_text().splitlines())) > 250} == {}
