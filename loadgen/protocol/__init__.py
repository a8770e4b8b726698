"""APIs of inference servers, one file each: how a request is encoded, and how an answer is read."""
