"""Metrics that mmseg and mmdet do not have."""

from densekd.edges import edge_distance, edge_errors, near_edge
from densekd.metrics.attribute_map import AttributeMAP
from densekd.metrics.boundary_iou import BoundaryIoU

__all__ = ["AttributeMAP", "BoundaryIoU", "edge_distance", "edge_errors", "near_edge"]
