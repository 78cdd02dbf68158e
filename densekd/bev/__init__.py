"""Bird's-eye view: geometry on the ground, sensors, a synthetic world. Only what says so imports mmdet3d."""
