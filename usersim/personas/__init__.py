"""Personas: who a person is, where they talk, and how; conditions on the ordinary simulation."""
