"""Page of one account: answer with reasons, forms to record work, what-if."""
