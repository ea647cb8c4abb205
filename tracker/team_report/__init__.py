"""The team's report: one HTML file or Markdown with every submission, how it was spent and what came of it."""
