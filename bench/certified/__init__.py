"""Fast Certified Robust Training with Short Warmup (Shi et al., 2021)."""
