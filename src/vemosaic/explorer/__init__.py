"""Look, name, correct, teach: the explorer's server, the journal of what was edited, and the edited map itself.

Every edit is a line of the run's ``journal.jsonl`` (`acts`, `journal`); the edited map is a pure function of the run
and these lines (`state`, `edited`), whether a page shows it (`server`) or a command writes it (`headless`).
"""
