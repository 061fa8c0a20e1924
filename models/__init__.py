"""Tensors and training. Nothing here knows of collections, runs or tables.

One legend of shapes, used in every docstring and shape comment of the project:

====  =======================================================
B     sequences of a batch
L     tokens of a sequence
H     hidden width of the backbone
V     vocabulary
N     documents of a collection
Q     queries
D     width of the dense half of a vector
K     kept terms of the lexical half of a document's vector
k     results of a query (`top_k`)
====  =======================================================
"""
