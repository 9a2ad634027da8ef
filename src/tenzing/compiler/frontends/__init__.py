"""Importers of models: one file per framework, none needed by the others."""
