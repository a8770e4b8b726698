"""What the dashboards show, as plain data; ``../generate.py`` writes it."""
