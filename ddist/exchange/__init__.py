"""Distilled sets in the formats of others: out (`export`) and in (`foreign`)."""
