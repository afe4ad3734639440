"""One file for each table and figure of the certified-training paper, and for what goes beyond it."""
