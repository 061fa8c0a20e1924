"""Table 3 from records: rows, results, pooled queries, and the tables of one and of several collections."""
