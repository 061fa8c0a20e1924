"""The metrics, one file a family: names, settings, source, and which scorers know it."""
