"""The checks of the verdict, by what they look at."""
