"""Metrics that mmseg and mmdet do not have."""

from densekd.edges import edge_distance, edge_errors, near_edge
from densekd.metrics.boundary_iou import BoundaryIoU

__all__ = ["BoundaryIoU", "edge_distance", "edge_errors", "near_edge"]
