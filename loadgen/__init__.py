"""Measures how fast an LLM inference engine is."""
