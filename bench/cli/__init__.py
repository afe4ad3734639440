"""The command line: one function for each command; everything heavy is imported when it is called."""
