"""Models of random weights, of any shape: they take an engine as long as trained ones and say nothing of sense."""
