"""Jobs: one per picture, waiting in a queue that is fair between users, then made by a backend."""
