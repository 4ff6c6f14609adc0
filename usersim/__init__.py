"""The vocabulary of realchat and its simulated user: records, engines, people, UserGPT."""
