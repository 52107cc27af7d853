"""A backtest's result as one HTML file that opens from disk: ``docs/report.md``."""
