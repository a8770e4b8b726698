"""Servers that speak exactly as engines do: what they have in common, and one class for each."""
