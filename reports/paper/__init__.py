"""The paper's tables as printed, its claims and collections, and which row a record may fill."""
