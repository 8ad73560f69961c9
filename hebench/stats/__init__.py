"""Statistics on arrays of per-item scores; knows nothing of files, models or tasks."""
