"""Table 3: the grid of its rows, the plan of its stages, and its run."""
