"""What ``ddist task=...`` can do: one function run(cfg) each."""
