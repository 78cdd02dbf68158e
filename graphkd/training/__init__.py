"""The training loop, what a recipe may see, and what a teacher leaves behind."""

from graphkd.training.loop import Clock, History, Schedule, Score, train

__all__ = ["Clock", "History", "Schedule", "Score", "train"]
