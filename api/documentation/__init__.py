"""README.md and deploy/docs as pages, and the reference as pages."""
