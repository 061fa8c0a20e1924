"""`python -m harness.cli` is `harness`; launchers such as torchrun start it by this name."""

from harness.cli import main

main()
