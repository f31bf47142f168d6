-- What a candidate adds to what the builder remembers, kept beside the candidate until it is published.
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE folders (folder TEXT PRIMARY KEY, modified_ns INTEGER NOT NULL, listed_ns INTEGER NOT NULL);
CREATE TABLE gone_folders (folder TEXT PRIMARY KEY);
CREATE TABLE removed (file_id INTEGER PRIMARY KEY);
CREATE TABLE files (
    file_no INTEGER PRIMARY KEY,
    lake_table TEXT NOT NULL,
    folder TEXT NOT NULL,
    path TEXT NOT NULL,
    etag TEXT NOT NULL,
    through_us INTEGER
);
CREATE TABLE file_keys (file_no INTEGER NOT NULL, name TEXT NOT NULL);
CREATE TABLE affected (name TEXT NOT NULL);
CREATE TABLE segments (name TEXT PRIMARY KEY, file TEXT NOT NULL, is_frozen INTEGER NOT NULL);
CREATE TABLE located (name TEXT NOT NULL, segment TEXT NOT NULL);
