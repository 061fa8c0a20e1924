"""What training reads: corpora, collections, pseudo-queries."""
