"""Number formats, SVG charts and PDF shared by the report and the audit."""
