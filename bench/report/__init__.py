"""How numbers look: figures, tables, the verdict page and the report. Everything here reads collected tables only."""
