"""What a run leaves: the distilled set, its files, and what they say of it."""
