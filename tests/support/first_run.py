"""Run inside an environment that holds the wheel: the README's first command and `harness check`, in an empty home."""

import os
import subprocess
import sys
from pathlib import Path

place = Path(sys.argv[1])
env = {**os.environ, "HARNESS_HOME": str(place / "home")}
results = ["--results", str(place / "results")]
harness = [sys.executable, "-m", "harness"]
subprocess.run(
    [*harness, "run", "--retriever", "bm25", "--retriever", "dupmae", "--dataset", "mini", *results],
    cwd=place, env=env, check=True,
)  # fmt: skip
subprocess.run([*harness, "check", "--junit", str(place / "check.xml")], cwd=place, env=env, check=True)
