"""`python -m starledger` is the command line, also where its script is not on the path."""

from starledger.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
