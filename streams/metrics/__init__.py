"""What each process tells Prometheus, and whether it is alive and ready."""
