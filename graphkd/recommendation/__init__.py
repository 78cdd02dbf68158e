"""Recommendation: a graph network of users and items, distilled into one with few edges and entries."""

from graphkd.recommendation.distillation import (
    RecommendationOutcome,
    RecommendationResult,
    distill_recommender,
    train_recommendation_teacher,
    train_recommender,
)
from graphkd.recommendation.files import load_parts, read_parts, read_rows
from graphkd.recommendation.interactions import Held, Interactions, Rows, held
from graphkd.recommendation.metrics import recall_ndcg
from graphkd.recommendation.recipes import RECOMMENDATION_RECIPES
from graphkd.recommendation.recommender import Recommender
from graphkd.recommendation.split import Parts, divided
from graphkd.recommendation.worlds import World, block_world

__all__ = [
    "RECOMMENDATION_RECIPES",
    "Held",
    "Interactions",
    "Parts",
    "RecommendationOutcome",
    "RecommendationResult",
    "Recommender",
    "Rows",
    "World",
    "block_world",
    "distill_recommender",
    "divided",
    "held",
    "load_parts",
    "read_parts",
    "read_rows",
    "recall_ndcg",
    "train_recommendation_teacher",
    "train_recommender",
]
