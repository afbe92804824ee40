"""What settings may be: ranges for annotations, and the config's groups."""
