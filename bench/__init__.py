"""Reproducible benchmarks for warming networks up: three papers, from data to PDF with one command."""

__version__ = "0.1.0"
