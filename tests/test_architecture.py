"""The floors of the house: what may import what, and by which name."""

import ast
import re

import pytest

from tests.conftest import ROOT

# each folder at the top of the checkout, and the packages that its modules may import
ALLOWED = {
    "harness": {"harness", "harness.retrievers", "harness.models", "harness.reports"},
    "retrievers": {"harness.retrievers", "harness.models"},
    "models": {"harness.models"},
    "reports": {"harness.reports"},
}
LINKED = sorted(ALLOWED.keys() - {"harness"})


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield f"{node.module}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(folder):
    """The modules of a folder itself: the links inside `harness` are not followed."""
    return sorted(path for path in (ROOT / folder).rglob("*.py") if path.resolve() == path)


def dotted(path):
    """The name that a module is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "harness" else ("harness", *parts)).removesuffix(".__init__")


def package_of(name):
    """Which of the four packages an imported name belongs to; None for a name that is not ours."""
    parts = name.split(".")
    if parts[0] != "harness":
        return "tests" if parts[0] == "tests" else None
    return ".".join(parts[:2]) if len(parts) > 1 and parts[1] in LINKED else "harness"


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_run_down_the_floors_only(folder):
    for path in modules(folder):
        ours = {package_of(name) for name in imports(path)} - {None}
        assert ours <= ALLOWED[folder], path


def test_there_are_no_circles():
    names = {dotted(path): path for folder in ALLOWED for path in modules(folder)}
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


@pytest.mark.parametrize("name", LINKED)
def test_the_other_three_are_linked_inside_harness(name):
    assert (ROOT / "harness" / name).is_symlink()
    assert (ROOT / "harness" / name).readlink().as_posix() == f"../{name}"


def test_no_file_reaches_them_by_another_name():
    """A module imported by two names exists twice, and `except` and `isinstance` do not know the second copy."""
    inside = "|".join({path.stem for name in LINKED for path in (ROOT / name).glob("*") if path.suffix in (".py", "")})
    linked = "|".join(LINKED)
    wrong = re.compile(
        rf"\bfrom\s+(?:{linked})[\w.]*\s+import|\bimport\s+(?:{linked})\b|(?<![\w./])(?:{linked})\.(?:{inside})\b"
    )
    texts = [path for path in ROOT.glob("*.*") if path.suffix in (".md", ".toml", ".ini")]
    for folder in (*ALLOWED, "tests", "benchmarks", "docs"):
        texts += [path for path in (ROOT / folder).rglob("*.*") if path.suffix in (".py", ".pyi", ".md", ".yaml")]
    found = {f"{path.relative_to(ROOT)}: {match[0]}" for path in texts for match in wrong.finditer(path.read_text())}
    assert found == set()


def test_modules_stay_short():
    assert {path: n for f in ALLOWED for path in modules(f) if (n := len(path.read_text().splitlines())) > 400} == {}
