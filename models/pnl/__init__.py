"""P&L explain: why expected and realised profit changed."""
