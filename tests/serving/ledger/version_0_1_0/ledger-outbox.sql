BEGIN TRANSACTION;
CREATE TABLE webhook_outbox (
	company VARCHAR(64) NOT NULL, 
	message_id VARCHAR(40) NOT NULL, 
	endpoint VARCHAR(64) NOT NULL, 
	event VARCHAR(64) NOT NULL, 
	body TEXT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	attempts INTEGER NOT NULL, 
	created_at VARCHAR(32) NOT NULL, 
	due_at VARCHAR(32) NOT NULL, 
	problem TEXT, 
	PRIMARY KEY (company, message_id)
);
INSERT INTO "webhook_outbox" VALUES('acme','msg_c597e25c9e113f6d5385a2a8270ff0a4','crm','book.published','{"type":"book.published","timestamp":"2026-06-29T00:00:00Z","data":{"book_id":"20260629-f219cf471260","as_of":"2026-06-29T00:00:00Z","release_id":"20260629-d01fea9b4f","n_accounts":381}}','waiting',0,'2026-06-29T00:00:00.000000+00:00','2026-06-29T00:00:00.000000+00:00',NULL);
COMMIT;
