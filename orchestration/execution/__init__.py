"""Effects: runs attempts, keeps the journal, brings orchestrations back. The engine decides, this room does."""
