"""Collections of the Hugging Face hub: names, files of a repository, a source of what they hold, and MTEB's tasks."""
