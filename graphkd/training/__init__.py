"""The training loop, what a recipe may see, and what a teacher leaves behind."""

from graphkd.training.loop import Clock, Evaluation, History, Schedule, Score, each_epoch, score, train

__all__ = ["Clock", "Evaluation", "History", "Schedule", "Score", "each_epoch", "score", "train"]
