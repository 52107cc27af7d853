"""One decision, from the problem that is posed to the record that explains it."""
