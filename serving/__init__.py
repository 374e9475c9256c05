"""RUN → bundle → answers: the index, the exported SavedModel and what answers from it."""
