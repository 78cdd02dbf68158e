"""Humans and objects in videos and images: actions, and who is related to what, from the entities of any detector."""

from graphkd.scenes.files import load, read, write
from graphkd.scenes.learning import SceneOutcome, SceneResult, learn, train_scenes
from graphkd.scenes.methods import SCENE_METHODS, scene_method
from graphkd.scenes.metrics import scene_graph_metrics
from graphkd.scenes.model import Relation, SceneModel
from graphkd.scenes.scenes import Scenes
from graphkd.scenes.worlds import passes

__all__ = [
    "SCENE_METHODS",
    "Relation",
    "SceneModel",
    "SceneOutcome",
    "SceneResult",
    "Scenes",
    "learn",
    "load",
    "passes",
    "read",
    "scene_graph_metrics",
    "scene_method",
    "train_scenes",
    "write",
]
