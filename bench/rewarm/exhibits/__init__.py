"""One file for each table and figure of the re-warming paper, and for what goes beyond it."""
