"""What the project claims of itself and of others, each claim with its command: ``scripts/bench --help``."""
