"""Files that are complete or as they were, shared between processes, and cached by signature."""
