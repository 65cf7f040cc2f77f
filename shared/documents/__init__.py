"""Documents of collections: files, texts, items of vector stores."""
