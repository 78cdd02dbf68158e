"""Bring the tap of a student and that of its teacher to a common shape."""
