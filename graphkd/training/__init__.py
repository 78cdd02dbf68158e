"""The training loop, the data that a recipe may use, and the teacher's cache."""

from graphkd.training.loop import Clock, History, Schedule, Score, train

__all__ = ["Clock", "History", "Schedule", "Score", "train"]
