"""One stage of training a file: what is built, what a batch is and what the loss is."""
