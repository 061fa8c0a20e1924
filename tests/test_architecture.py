"""The floors of the house: what may import what, and by which name. `docs/design.md` draws it."""

import ast
import re
from collections import defaultdict
from functools import cache

import pytest

from tests.support.paths import ROOT

# each folder at the top of the checkout, and the packages that its modules may import
ALLOWED = {
    "harness": {"harness", "harness.retrievers", "harness.models", "harness.reports"},
    "retrievers": {"harness.retrievers", "harness.models"},
    "models": {"harness.models"},
    "reports": {"harness.reports"},
}
LINKED = sorted(ALLOWED.keys() - {"harness"})

# The rooms of each package (modules, and sub-packages with all that is in them), from the ground floor up: a room
# imports rooms of lower floors alone.
FLOORS = {
    "harness": [
        {"metrics", "version"},
        {"runtime"},
        {"datasets"},
        {"runs"},
        {"analysis", "checks", "training"},
        {"ablation", "adapt", "api", "bench"},
        {"cli"},
        {"__main__"},
    ],
    "harness.retrievers": [
        {"errors", "ordering"},
        {"devices", "ids", "places", "text_files", "torch_threads"},
        {"jit", "yaml_files"},
        {"compile_ahead"},
        {"types"},
        {"encoding", "registry", "run_files"},
        {"functions", "lexical", "mining", "rerank", "search"},
        {"neural", "remote"},
        {"late_interaction", "sbert"},
    ],
    "harness.models": [
        {"errors"},
        {"hybrid", "training"},
        {"layers"},
        {"checkpoints", "losses"},
        {"finetuning", "pretraining"},
        {"cross_encoder"},
    ],
    "harness.reports": [
        {"errors", "markdown"},
        {"checks", "files", "records", "statistics"},
        {"card", "comparison_table", "paper", "suite_table"},
        {"ablation", "tables"},
        {"plots"},
        {"dissection"},
    ],
}


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


@cache
def graph():
    """{module: the modules of ours that it imports, wherever in it}."""
    names = {dotted(path): path for folder in ALLOWED for path in modules(folder)}
    return {name: {other for other in imports(path) if other in names} - {name} for name, path in names.items()}


def children(package):
    """The graph of a package's modules and sub-packages, each sub-package as one; without the package's own face."""
    found = defaultdict(set)
    depth = package.count(".") + 1

    def child(name):
        parts = name.split(".")
        return ".".join(parts[: depth + 1]) if name.startswith(f"{package}.") and package_of(name) == home else None

    home = package_of(package)
    for name, others in graph().items():
        if (own := child(name)) is not None:
            found[own] |= {child(other) for other in others} - {None, own}
    return found


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_run_down_the_packages_only(folder):
    for path in modules(folder):
        ours = {package_of(name) for name in imports(path)} - {None}
        assert ours <= ALLOWED[folder], path


@pytest.mark.parametrize("package", FLOORS)
def test_rooms_import_rooms_of_lower_floors_only(package):
    rooms = {name.removeprefix(f"{package}."): others for name, others in children(package).items()}
    floor = {room: number for number, floor in enumerate(FLOORS[package]) for room in floor}
    assert sorted(floor) == sorted(rooms)
    for room, others in rooms.items():
        below = {other.removeprefix(f"{package}.") for other in others}
        assert {other for other in below if floor[other] >= floor[room]} == set(), room


def circle(edges):
    """A way through `edges` that comes back to where it was; None where there is none."""
    done = set()

    def visit(name, way):
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return None
        found = next((turn for other in sorted(edges[name]) if (turn := visit(other, [*way, name]))), None)
        done.add(name)
        return found

    return next((turn for name in sorted(edges) if (turn := visit(name, []))), None)


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_there_are_no_circles_among_modules():
    assert circle(graph()) is None


def test_there_are_no_circles_among_the_children_of_any_package():
    packages = {dotted(path) for folder in ALLOWED for path in modules(folder) if path.name == "__init__.py"}
    assert len(packages) > 30
    assert {package: turn for package in packages if (turn := circle(children(package)))} == {}


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
    assert wrong.search("from models" + ".hybrid import HybridSpec")
    assert wrong.search("see `retrievers" + ".types.Run`")
    texts = [path for path in ROOT.glob("*.*") if path.suffix in (".md", ".toml", ".ini")]
    for folder in (*ALLOWED, "tests", "experiments", "docs"):
        texts += [path for path in (ROOT / folder).rglob("*.*") if path.suffix in (".py", ".pyi", ".md", ".yaml")]
    texts.remove(ROOT / "docs" / "design.md")  # shortens names on purpose; tests/test_docs.py resolves each of them
    found = {f"{path.relative_to(ROOT)}: {match[0]}" for path in texts for match in wrong.finditer(path.read_text())}
    assert found == set()


def test_modules_stay_short():
    assert {path: n for f in ALLOWED for path in modules(f) if (n := len(path.read_text().splitlines())) > 400} == {}


def test_few_modules_lie_flat_in_harness():
    assert len(list((ROOT / "harness").glob("*.py"))) <= 12


def test_tests_share_helpers_through_support_alone():
    for path in modules("tests"):
        others = {name for name in imports(path) if package_of(name) == "tests"}
        assert {name for name in others if not name.startswith("tests.support") and name != "tests"} == set(), path


def test_tests_mirror_the_packages():
    """A folder of tests stands for a folder of code, or it holds what tests share."""
    for path in modules("tests"):
        place = path.parent.relative_to(ROOT / "tests")
        assert place.parts[:1] in ((), ("device",), ("support",), ("public_reports",)) or (ROOT / place).is_dir(), path
