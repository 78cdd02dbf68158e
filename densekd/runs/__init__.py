"""What every training run shares: its preparation, an exact resume, loader workers, mixed precision."""
