"""Collections of documents, and vector stores."""
