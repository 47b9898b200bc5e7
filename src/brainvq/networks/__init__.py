"""Encoders and decoders that know no quantizer, one design a file."""
