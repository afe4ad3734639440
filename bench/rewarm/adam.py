"""The optimiser's constants (section 3 of the paper; no decay on LayerNorms and biases by the authors' code)."""

BETAS = (0.9, 0.95)
EPS = 1e-8
WEIGHT_DECAY = 0.1
CLIP_NORM = 1.0
