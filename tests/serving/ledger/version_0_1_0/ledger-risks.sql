BEGIN TRANSACTION;
CREATE TABLE looks (
	company VARCHAR(64) NOT NULL, 
	who VARCHAR(200) NOT NULL, 
	book_id VARCHAR(64) NOT NULL, 
	book_before VARCHAR(64) NOT NULL, 
	PRIMARY KEY (company, who)
);
INSERT INTO "looks" VALUES('acme','ada','20260629-f219cf471260','');
CREATE TABLE risk_events (
	"row" INTEGER NOT NULL, 
	company VARCHAR(64) NOT NULL, 
	event_id VARCHAR(64) NOT NULL, 
	entity_id TEXT NOT NULL, 
	at VARCHAR(32) NOT NULL, 
	who TEXT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	stage VARCHAR(16), 
	on_day VARCHAR(10), 
	play VARCHAR(64) NOT NULL, 
	text TEXT NOT NULL, 
	"trigger" VARCHAR(64) NOT NULL, 
	PRIMARY KEY ("row"), 
	UNIQUE (company, event_id)
);
INSERT INTO "risk_events" VALUES(1,'acme','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee','A-00230','2026-06-29T09:00:00.000000+00:00','ada','fact',NULL,'2026-06-25','','Their champion left','');
CREATE INDEX risk_events_by_entity ON risk_events (company, entity_id, "row");
COMMIT;
