"""Text in, batches out: sources → corpus → tokenizer → token store → packing → sampler → data module."""
