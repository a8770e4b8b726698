"""Pure arithmetic on records."""
