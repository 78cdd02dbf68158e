"""What models see: places on the ground, batches of several sensors, normalised images. Plain tensors."""
