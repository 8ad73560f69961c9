"""`python -m hebench`: the same as the `hebench` command."""

from hebench.cli import main

if __name__ == "__main__":
    main()
