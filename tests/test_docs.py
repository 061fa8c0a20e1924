"""What the pages say of the repository: links lead somewhere, and the files and names that they name are there."""

import re
from importlib import import_module

import pytest

from tests.support.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "models" / "data").glob("*/README.md")])
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
OURS = ("docs", "experiments", "harness", "models", "reports", "retrievers", "tests")


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_that_are_named_are_there(page):
    for name in re.findall(rf"`((?:{'|'.join(OURS)})/[\w./-]+)`", page.read_text(encoding="utf-8")):
        assert "NAME" in name or (ROOT / name).exists(), name


def names_in_the_design():
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").partition("## From a query")[2]
    text = text.partition("## To add a")[0]
    found = re.findall(r"`([a-z_]+(?:\.\w+)+)`", text)
    return sorted({name for name in found if not re.search(r"\.(json|csv|gz)$", name)})


def resolved(name):
    """What a dotted name stands for, as the page shortens it: without `harness`."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(["harness", *parts[:n]]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            found = getattr(found, part)
        return found
    raise AssertionError(name)


def test_the_walks_name_what_is_there():
    names = names_in_the_design()
    assert len(names) > 40
    for name in names:
        assert resolved(name) is not None, name
