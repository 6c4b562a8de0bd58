"""Files of an audit: columns, dates and numbers as people write them."""
