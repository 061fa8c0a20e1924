"""Adapters (PEFT: LoRA and its like), which are weights that nothing here would read."""

from pathlib import Path

from harness.models.errors import CheckpointError


def refuse_adapter(folder: Path) -> None:
    """Raise CheckpointError for a folder that holds an adapter, alone or beside the weights of its base."""
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{folder} holds an adapter (adapter_config.json), which is not applied here. Merge it into its base model "
            "and name that folder: peft's merge_and_unload(), then save_pretrained(FOLDER)."
        )
