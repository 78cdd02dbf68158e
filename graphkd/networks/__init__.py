"""Networks that answer from features alone, and a codebook."""
