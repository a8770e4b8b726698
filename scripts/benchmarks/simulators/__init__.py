"""Servers and loads on virtual time whose truth is known: they give the records that a run would have written."""
