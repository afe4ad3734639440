"""From a scale file to records: planning, keys, jobs, execution, and what Snakemake's rules look up."""
