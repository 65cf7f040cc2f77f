"""Large inputs of jobs, outside of database and Redis."""
