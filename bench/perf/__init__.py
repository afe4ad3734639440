"""The suite's own speed against what a user would run instead: same process, same machine, same losses."""
