"""The command line: parses, shows, and maps errors to exit codes. All work is done by `cyberhost_model`."""
