"""The desk: the page on which people watch prices and steer. Static files, no build step."""

from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
