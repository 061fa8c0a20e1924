"""Several processes that run one command (`torchrun`, `accelerate launch`): who is who, and what they tell each other.

What is exchanged are Python objects on the CPU, a ranked list a query: gloo carries them, whatever the GPUs use.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from retrievers.errors import InputError

_PATIENCE = timedelta(days=7)  # one may encode or mine for long while the others wait


@dataclass(frozen=True)
class Processes:
    """This process's rank among `count`. Rank 0 keeps records and speaks to the user."""

    rank: int = 0
    count: int = 1

    @classmethod
    def launched(cls) -> "Processes":
        """What the launcher's environment says: RANK and WORLD_SIZE. Raises InputError where they make no sense."""
        words = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        try:
            rank, count = (int(word) for word in words)
        except ValueError:
            rank, count = -1, 0
        if not 0 <= rank < count:
            raise InputError(
                f"RANK={words[0]} and WORLD_SIZE={words[1]} name no process. Start with torchrun, or unset them."
            )
        return cls(rank, count)

    @property
    def main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @cached_property
    def _group(self) -> Any:
        import torch.distributed as dist

        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=_PATIENCE)
            return dist.group.WORLD
        return dist.new_group(backend="gloo", timeout=_PATIENCE)

    def gather(self, value: Any) -> list[Any] | None:
        """The values of all processes in order of rank, at rank 0; None elsewhere."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] | None = [None] * self.count if self.main else None
        dist.gather_object(value, found, dst=0, group=self._group)
        return found

    def agreed(self, value: Any) -> Any:
        """Rank 0's value, everywhere."""
        if self.count == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def leave(self) -> None:
        """Let go of the others at the end of a command."""
        if "_group" in self.__dict__:
            import torch.distributed as dist

            dist.destroy_process_group()
