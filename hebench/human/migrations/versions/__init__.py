"""One file a schema version; files are never changed once released."""
