"""Models that sentence-transformers loads and encodes with: vectors by that library, store and exact search by us."""
