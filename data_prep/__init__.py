"""Raw tables to a DATASET directory: sources, validation, split, vocabularies, encoding, shards."""
