"""A build hook: a wheel or an sdist without all of its packages is never made."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LINKED = ("models", "reports", "retrievers")


class CustomBuildHook(BuildHookInterface):
    """Stops where a symbolic link inside `harness/` is missing, leads nowhere, or was unpacked as a text file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Look at the links, or at the folders that stand in their place in an sdist."""
        root = Path(self.root)
        if lost := [f"harness/{name}" for name in LINKED if not (root / "harness" / name / "__init__.py").is_file()]:
            advice = (
                "Run `git config core.symlinks true`, delete them, and `git checkout -- harness editable`."
                if (root / ".git").exists()
                else "This archive lost its symbolic links: take the .tar.gz, or `pip install git+URL`."
            )
            raise SystemExit(f"{', '.join(lost)}: no symbolic link to the folder of that name. {advice}")
