"""Services that already run: an embedding endpoint as a dense retriever, a search engine by its description."""
