"""Engines x models: started, measured and tabled one after the other."""
