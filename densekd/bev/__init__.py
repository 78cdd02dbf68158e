"""Bird's-eye view: a synthetic world, detectors, a metric, text embeddings. Some modules need mmdet3d."""
