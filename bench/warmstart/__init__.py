"""On Warm-Starting Neural Network Training (Ash & Adams, NeurIPS 2020)."""
