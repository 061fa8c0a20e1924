"""Single-vector, lexical and hybrid systems: the catalog, one retriever for all, and its halves."""
