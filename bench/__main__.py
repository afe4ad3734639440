"""Command line: ``python -m bench COMMAND``. Each rule of the workflow calls one of these."""

from bench.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
