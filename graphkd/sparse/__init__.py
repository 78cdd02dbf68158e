"""Sparse and on-disk data: edges, random walks and rows of large matrices."""
