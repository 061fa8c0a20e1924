"""Peak memory, measured in a process of its own: what was held before, here or there, leaves no trace in it.

Linux only: /proc/self/status. The peak is VmHWM and not `ru_maxrss`, which a new process inherits from the one that
started it.
"""

import contextlib
import gc
import importlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Peak:
    """Resident memory in bytes: when all was prepared, and at most while the call ran."""

    before: int
    most: int

    @property
    def above(self) -> int:
        """What the call took beyond what was there before."""
        return self.most - self.before


def apart(target: str, **kwargs: Any) -> Peak:
    """Measure a call in a fresh process.

    `target` is "module:function"; `function(**kwargs)`, of values that JSON can carry, prepares and returns the call
    that is measured. Raises RuntimeError, with the end of what the process said, where it fails.
    """
    words = [sys.executable, "-m", __name__, target, json.dumps(kwargs)]
    path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)  # the same packages as here
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=False)
    if done.returncode:
        raise RuntimeError(f"{target} failed in a process of its own: {done.stderr.strip()[-2000:]}")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def here(target: str, kwargs: dict[str, Any]) -> Peak:
    """Prepare, call and measure in this process."""
    module, _, name = target.partition(":")
    call = getattr(importlib.import_module(module), name)(**kwargs)
    gc.collect()
    # forget the peak so far; where a container forbids that, preparing counts too: it overstates and never hides
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    call()
    return Peak(before, _resident("VmHWM"))


def _resident(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status names no {name}: peak memory can be measured on Linux only")
    return int(found[1]) * 1024


if __name__ == "__main__":
    peak = here(sys.argv[1], json.loads(sys.argv[2]))
    print(json.dumps({"before": peak.before, "most": peak.most}))
