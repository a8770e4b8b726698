"""The models that engines are compared on: what they are, not where they run."""
