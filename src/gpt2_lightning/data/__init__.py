"""Text in, batches out: sources → tokenizer → corpus → token store → packing → sampler → data module."""
