"""The model that answers: training on a corpus, held-out loss, chatting."""
