"""The inner loop: how a student is trained."""
