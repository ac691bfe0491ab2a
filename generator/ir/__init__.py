"""The intermediate representation: a job as data, its text, and what makes it valid."""
