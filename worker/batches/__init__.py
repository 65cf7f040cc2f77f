"""Batches on their way out: their deadlines, their end, their files.  The way in is the api's."""
