"""``python -m streams`` is the ``pricemaker`` program."""

from streams.cli import main

main()
