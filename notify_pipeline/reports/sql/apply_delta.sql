-- Takes a published candidate's delta into the state, in one transaction of the caller's.
INSERT OR IGNORE INTO keys (name) SELECT name FROM delta.file_keys;
INSERT OR IGNORE INTO keys (name) SELECT name FROM delta.located;

DELETE FROM file_keys WHERE file_id IN (SELECT file_id FROM delta.removed);
DELETE FROM files WHERE file_id IN (SELECT file_id FROM delta.removed);
CREATE TEMP TABLE base AS SELECT coalesce(max(file_id), 0) AS file_id FROM files;
INSERT INTO files
SELECT b.file_id + f.file_no, f.lake_table, f.folder, f.path, f.etag, f.through_us
FROM delta.files AS f, base AS b;
INSERT OR IGNORE INTO file_keys
SELECT k.key_id, b.file_id + f.file_no
FROM base AS b, delta.file_keys AS f CROSS JOIN keys AS k ON k.name = f.name;
DROP TABLE base;

DELETE FROM folders WHERE folder IN (SELECT folder FROM delta.gone_folders);
INSERT OR REPLACE INTO folders SELECT * FROM delta.folders;

DELETE FROM located
WHERE key_id IN (SELECT k.key_id FROM delta.affected AS a CROSS JOIN keys AS k ON k.name = a.name)
  AND segment_id IN (
      SELECT s.segment_id FROM segments AS s LEFT JOIN delta.segments AS d USING (name)
      WHERE NOT coalesce(d.is_frozen, FALSE)
  );
DELETE FROM located
WHERE segment_id IN (SELECT segment_id FROM segments WHERE name NOT IN (SELECT name FROM delta.segments));
DELETE FROM segments WHERE name NOT IN (SELECT name FROM delta.segments);
INSERT INTO segments (name, file) SELECT name, file FROM delta.segments WHERE TRUE
ON CONFLICT (name) DO UPDATE SET file = excluded.file;
INSERT OR IGNORE INTO located
SELECT k.key_id, s.segment_id
FROM delta.located AS l CROSS JOIN keys AS k ON k.name = l.name JOIN segments AS s ON s.name = l.segment;

INSERT OR REPLACE INTO meta SELECT * FROM delta.meta;
