"""Text in, batches out: sources → tokenizer → token store → packing → sampler → data module."""
