"""Cells of the tables of statistics: one server under one load, played again and again on virtual time."""
