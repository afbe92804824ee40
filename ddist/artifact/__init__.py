"""The product of a run: the distilled set, its files, its card and its picture."""
