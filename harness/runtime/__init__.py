"""What a command runs in: its job and phases, processes, locks, paths, and what is said of the machine."""
