"""From an embedding model and texts to a hybrid, in one command: a recipe that plans itself to a time."""
