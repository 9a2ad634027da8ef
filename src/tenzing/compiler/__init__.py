"""Model to program: graph IR, operations, frontends and passes."""
