-- What operators say of nodes, and what they ran when they were last seen.
ALTER TABLE nodes ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE nodes ADD COLUMN active_revision INTEGER NOT NULL DEFAULT 0;
