"""Runs written out for other tools: TREC with an ir_metadata header, JSON as ranx and BEIR have it, Parquet."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from harness.reports.records.labels import name_of
from harness.reports.records.records import Manifest
from harness.retrievers.errors import InputError
from harness.retrievers.places import expanded
from harness.retrievers.run_files import exchange, trec
from harness.retrievers.types import Run

Kind = Literal["trec", "json", "parquet"]
# by the end of a file's name
KINDS: dict[str, Kind] = {
    ".trec": "trec", ".run": "trec", ".txt": "trec", ".gz": "trec", ".json": "json", ".parquet": "parquet",
}  # fmt: skip
_VERSION = "0.2"  # of ir_metadata


def write(run: Run, path: str | Path, kind: Kind, tag: str, header: str = "") -> Path:
    """Write a run (a TREC file gzipped where its name ends in .gz); returns the path.

    A file of that name is replaced when this one is whole. `header` stands before a TREC run. Raises InputError where
    the file cannot be written.
    """
    ways: dict[Kind, Callable[[Path], None]] = {
        "trec": lambda new: trec.write(run, new, tag, header),
        "json": lambda new: _json(run, new),
        "parquet": lambda new: exchange.to_frame(run).to_parquet(new, index=False),
    }
    return write_whole(path, ways[kind], "the run")


def write_whole(path: str | Path, write_to: Callable[[Path], Any], what: str) -> Path:
    """Have a file written under another name, which ends alike, and rename it; returns the path.

    Raises InputError, which begins with `what`, where it cannot be written.
    """
    place = expanded(path)
    new = place.with_name(f".new-{place.name}")  # the end says whether it is gzipped
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_to(new)
        new.replace(place)
    except OSError as error:
        raise InputError(f"{what} cannot be written to {place}: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
    return place


def _json(run: Run, path: Path) -> None:
    path.write_text(json.dumps(exchange.to_dict(run), ensure_ascii=False) + "\n", encoding="utf-8")


def header_of(manifest: Manifest, tag: str) -> str:
    """What a record says of its run as an ir_metadata header (Breuer et al. 2022): YAML in comments."""
    import yaml

    system, data, hardware = manifest.system, manifest.data, manifest.cost.hardware
    libraries = [f"{name} {version}" for name, version in manifest.packages.items()]
    values: dict[str, Any] = {
        "ir_metadata.version": _VERSION,
        "tag": tag,
        "platform": {
            "hardware": {
                "cpu": {"model": hardware.get("processor"), "cores": hardware.get("cores")},
                "ram": f"{int(hardware.get('memory_bytes', 0)) / 2**30:.0f} GiB",
            },
            "operating system": {"kernel": hardware.get("system")},
            "software": {"libraries": {"python": libraries}},
        },
        "implementation": {
            "source": {"commit": manifest.git_commit},
            "executable": {"cmd": " ".join(manifest.command)},
        },
        "method": {
            "automatic": True,
            "retrieval": [
                {"name": name_of(system), "method": system.system, "variant": system.variant, **system.options},
            ],
        },
        "data": {
            "test_collection": {"name": data.name, "ir_datasets": data.dataset_id, "qrels": data.qrels_hash},
        },
    }
    plain = json.loads(json.dumps(values, default=str))
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=10_000)
    lines = ["ir_metadata.start", *text.splitlines(), "ir_metadata.end"]
    return "".join(f"# {line}\n" for line in lines)
