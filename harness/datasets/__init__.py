"""A name becomes a collection: sources, titles, rules, and the survey that checks and hashes it."""
