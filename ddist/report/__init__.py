"""A run for people to look at: the page, its pictures and curves, tables and log lines."""
