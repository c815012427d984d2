"""Videos over HTTP: checked uploads, a queue of jobs that survives a restart, and a page for the browser."""
