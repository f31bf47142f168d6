-- What the builder remembers (SQLite): which lake files were folded, what each tells of, where that lies.
-- Keys are notification ids; of registrations' files they are days (YYYY-MM-DD).
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE folders (folder TEXT PRIMARY KEY, modified_ns INTEGER NOT NULL, listed_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE files (
    file_id INTEGER PRIMARY KEY,
    lake_table TEXT NOT NULL,
    folder TEXT NOT NULL,
    path TEXT NOT NULL UNIQUE,
    etag TEXT NOT NULL,
    through_us INTEGER -- the latest beacon in it
);
CREATE INDEX files_by_folder ON files (folder);
CREATE INDEX files_by_through ON files (through_us) WHERE through_us IS NOT NULL;
CREATE TABLE keys (key_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE file_keys (key_id INTEGER NOT NULL, file_id INTEGER NOT NULL, PRIMARY KEY (key_id, file_id)) WITHOUT ROWID;
CREATE INDEX file_keys_by_file ON file_keys (file_id);
CREATE TABLE segments (segment_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, file TEXT NOT NULL);
CREATE TABLE located (
    key_id INTEGER NOT NULL,
    segment_id INTEGER NOT NULL,
    PRIMARY KEY (key_id, segment_id)
) WITHOUT ROWID;
CREATE INDEX located_by_segment ON located (segment_id);
