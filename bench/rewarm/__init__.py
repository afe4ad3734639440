"""Continual Pre-Training of LLMs: How to (re)warm your model? (Gupta et al., 2023)."""
