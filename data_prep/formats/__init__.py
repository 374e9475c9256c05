"""Each way that raw rows are stored, as a stream of batches; `data_prep.sources` is the door to them."""
