"""Prompt files, NAME.vN.md: a part `# system`, a part `# user`; a changed wording is a new version."""
