"""Metrics for Prometheus, in a process of its own: what renders them measures nothing."""
