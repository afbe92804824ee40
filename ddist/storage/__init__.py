"""Files that are written whole or not at all, shared between processes, and kept by signature."""
