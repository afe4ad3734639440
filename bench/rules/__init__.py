"""The Snakemake rules and the tested functions that they call."""
