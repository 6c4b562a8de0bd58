BEGIN TRANSACTION;
CREATE TABLE idempotency_keys (
	company VARCHAR(64) NOT NULL, 
	caller VARCHAR(200) NOT NULL, 
	"key" VARCHAR(200) NOT NULL, 
	request_sha256 VARCHAR(64) NOT NULL, 
	seen_at VARCHAR(32) NOT NULL, 
	PRIMARY KEY (company, caller, "key")
);
INSERT INTO "idempotency_keys" VALUES('acme','crm','key-1','44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a','2026-06-29T09:00:00.000000+00:00');
CREATE TABLE reason_feedback (
	company VARCHAR(64) NOT NULL, 
	score_id VARCHAR(40) NOT NULL, 
	reason_code VARCHAR(100) NOT NULL, 
	verdict VARCHAR(16) NOT NULL, 
	given_by VARCHAR(200) NOT NULL, 
	account_id VARCHAR(200) NOT NULL, 
	note TEXT, 
	given_at VARCHAR(32) NOT NULL, 
	PRIMARY KEY (company, score_id, reason_code, verdict, given_by)
);
INSERT INTO "reason_feedback" VALUES('acme','019f10acfc00194efffa8b4f9982c788','expansion.adoption.raises','useful','person ada','A-00230','Yes, they told us','2026-06-29T09:00:00.000000+00:00');
CREATE TABLE reported_outcomes (
	company VARCHAR(64) NOT NULL, 
	account_id VARCHAR(200) NOT NULL, 
	outcome VARCHAR(16) NOT NULL, 
	decided_on VARCHAR(10) NOT NULL, 
	effective_on VARCHAR(10), 
	reason TEXT, 
	reported_by TEXT NOT NULL, 
	known_at VARCHAR(32) NOT NULL, 
	PRIMARY KEY (company, account_id, outcome, decided_on)
);
INSERT INTO "reported_outcomes" VALUES('acme','A-00230','churned','2026-06-20','2026-07-31','price','crm','2026-06-29T09:00:00.000000+00:00');
INSERT INTO "reported_outcomes" VALUES('acme','A-00372','renewed','2026-06-21',NULL,NULL,'crm','2026-06-29T09:00:00.000000+00:00');
COMMIT;
