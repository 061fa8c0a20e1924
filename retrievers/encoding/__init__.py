"""Text into vectors: how a passage is written, encoded, and kept in a store."""
