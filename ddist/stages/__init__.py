"""What the long stages of a run have in common: they show how far they are, and stop when asked."""
