"""Bag-of-words retrievers: BM25 by Lucene, and the count of shared words."""
