"""Training runs: preparation, exact resume, loader workers, mixed precision."""
