"""Steps of an ingestion: read, embed, store."""
