"""Every objective of the paper, one function for each equation."""
