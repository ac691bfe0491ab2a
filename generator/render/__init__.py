"""From a job to the text of its package: views, finished here, and templates."""
