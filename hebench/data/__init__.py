"""Data: pinned public files, the sets written for hebench, and one loader for each."""
