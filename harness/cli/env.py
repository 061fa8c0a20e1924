"""`harness env`: what a bug report should say of this machine."""

import typer

from harness.cli.options import Json


def env_command(as_json: Json = False) -> None:
    """Print versions, devices and places, for a bug report."""
    import json

    from harness.runtime.report import report

    found = report()
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for section, values in found.items():
        typer.echo(section)
        width = max(map(len, values), default=0)
        for name, value in values.items():
            typer.echo(f"  {name:<{width}}  {value}")
