"""Networks of others that metrics look and listen with; frozen."""
