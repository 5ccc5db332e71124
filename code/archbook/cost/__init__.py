"""A cost model: operations, bytes, memory and talk of a step, before anything runs."""
