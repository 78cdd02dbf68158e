"""Register this package for configs: `custom_imports = dict(imports=['densekd.bev.registered'])`. Needs mmdet3d."""

import densekd.bev.dataset
import densekd.bev.detector
import densekd.bev.lift
import densekd.bev.metric
import densekd.bev.resize  # noqa: F401
