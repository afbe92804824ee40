"""Matching losses: pure functions of what networks make of real and of synthetic images."""
