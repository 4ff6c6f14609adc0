"""Characters: a life story becomes experiences, a model trained to be that person, interviews."""
