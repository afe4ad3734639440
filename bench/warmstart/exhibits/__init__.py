"""One file for each table and figure of the warm-start paper, and for what goes beyond it."""
