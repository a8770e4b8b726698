"""What is asked, and in which order."""
