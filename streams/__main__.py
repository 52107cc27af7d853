"""``python -m streams`` is the ``pricemaker`` program."""

from streams.cli import main

if __name__ == "__main__":  # processes of a replay import this module again
    main()
