"""Published weights of others into model folders of ours, and ours onto the Hub."""
