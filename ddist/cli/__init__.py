"""From the words of a command to a checked config, and from errors to sentences."""
