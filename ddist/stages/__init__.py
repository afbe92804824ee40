"""The base of a run's long stages: they show how far they are, and stop when asked."""
