"""Edges, walks and rows of large matrices: what is sparse or lies on disk."""
