"""YAML files as people write them: one mapping, each key once, errors with their line."""

from pathlib import Path
from typing import Any

import yaml

from harness.retrievers.errors import InputError
from harness.retrievers.text_files import text


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for number, key in enumerate(keys):
            if key.value in [other.value for other in keys[:number]]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, such_as: str = "retrievers: [bm25]") -> dict[str, Any]:
    """Read a YAML mapping. Raises InputError with the line where it is malformed; `such_as` is an example."""
    try:
        loader = _Loader(text(path))
        loader.name = str(path)  # of which messages speak
        values = loader.get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict):
        got = "nothing" if values is None else f"a {type(values).__name__}"
        raise InputError(f"{path} holds {got}; want keys and values, such as `{such_as}`.")
    return {str(key): value for key, value in values.items()}
