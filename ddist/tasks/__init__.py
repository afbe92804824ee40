"""The tasks that ``ddist task=...`` chooses, each a function run(cfg)."""
