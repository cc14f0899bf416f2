"""`python -m mpgen` is `mpgen`."""

from mpgen.cli import main

if __name__ == "__main__":
    main()
