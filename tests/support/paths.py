"""Where the checkout is, and the real collections."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("HARNESS_TEST_DATA", ROOT.parent / "shared"))
