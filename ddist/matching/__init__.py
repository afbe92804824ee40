"""Matching losses: pure functions of features, gradients or weights of networks."""
