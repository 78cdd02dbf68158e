"""Networks that predict from features alone, and a codebook."""
