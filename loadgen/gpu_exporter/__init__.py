"""Metrics of NVIDIA GPUs for Prometheus: what NVML says, read once an interval on the machine that has them."""
