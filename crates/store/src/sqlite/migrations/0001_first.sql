-- The first schema. Timestamps are milliseconds since 1970-01-01T00:00:00Z; ids are stored as text; numbers are this
-- database's own short names for rows and never leave it.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE data_keys (
    purpose    TEXT NOT NULL,
    version    INTEGER NOT NULL,
    wrapped    BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (purpose, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE instances (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    name          TEXT NOT NULL,
    is_default    INTEGER NOT NULL,
    settings      TEXT NOT NULL,
    revision      INTEGER NOT NULL,
    -- The cut-off: tokens created before it are refused.
    issued_before INTEGER,
    -- Time since which every JWT carries the authority's claim of scopes.
    local_since   INTEGER,
    created_at    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX instances_default ON instances (is_default) WHERE is_default;

CREATE TABLE instance_keys (
    number         INTEGER PRIMARY KEY,
    id             TEXT NOT NULL,
    instance       INTEGER NOT NULL REFERENCES instances (number),
    digest         BLOB NOT NULL UNIQUE,
    digest_version INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    revoked_at     INTEGER,
    UNIQUE (instance, id)
) STRICT;
CREATE INDEX instance_keys_by_instance ON instance_keys (instance, number);

CREATE TABLE signing_keys (
    number          INTEGER PRIMARY KEY,
    kid             TEXT NOT NULL UNIQUE,
    instance        INTEGER NOT NULL REFERENCES instances (number),
    sealed          BLOB NOT NULL,
    state           TEXT NOT NULL,
    published_at    INTEGER NOT NULL,
    active_at       INTEGER,
    retired_at      INTEGER,
    last_expires_at INTEGER
) STRICT;
CREATE INDEX signing_keys_by_instance ON signing_keys (instance, number);
-- At most one key signs.
CREATE UNIQUE INDEX signing_keys_active ON signing_keys (instance) WHERE state = 'active';

CREATE TABLE machines (
    -- Never used twice: tokens outlive their machine and must not find another one in its place.
    number            INTEGER PRIMARY KEY AUTOINCREMENT,
    instance          INTEGER NOT NULL REFERENCES instances (number),
    id                TEXT NOT NULL UNIQUE,
    name              TEXT NOT NULL,
    -- The name in lower case by Unicode's rules, which SQLite does not know.
    name_folded       TEXT NOT NULL,
    default_token_ttl INTEGER NOT NULL,
    -- The ids of the machines it may call, oldest scope first, separated by spaces: the table scopes once more.
    scopes            TEXT NOT NULL,
    revision          INTEGER NOT NULL,
    -- The cut-off: tokens created before it are refused.
    issued_before     INTEGER,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL
) STRICT;
CREATE INDEX machines_by_age ON machines (instance, created_at, id);
CREATE INDEX machines_by_name ON machines (instance, name, id);

-- The id of a deleted machine is never reused: receivers may remember it after its row is gone.
CREATE TABLE deleted_machines (
    id         TEXT PRIMARY KEY,
    instance   INTEGER NOT NULL REFERENCES instances (number),
    deleted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX deleted_machines_by_time ON deleted_machines (instance, deleted_at);

CREATE TABLE machine_keys (
    -- Grows with age.
    number         INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL,
    machine        INTEGER NOT NULL REFERENCES machines (number),
    digest         BLOB NOT NULL UNIQUE,
    digest_version INTEGER NOT NULL,
    sealed         BLOB,
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER,
    UNIQUE (machine, id)
) STRICT;
CREATE INDEX machine_keys_by_machine ON machine_keys (machine, number);
CREATE INDEX machine_keys_by_end ON machine_keys (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE scopes (
    from_machine INTEGER NOT NULL REFERENCES machines (number),
    to_machine   INTEGER NOT NULL REFERENCES machines (number),
    created_at   INTEGER NOT NULL,
    -- The order of age among the scopes of one machine.
    sequence     INTEGER NOT NULL,
    PRIMARY KEY (from_machine, to_machine)
) STRICT, WITHOUT ROWID;
CREATE INDEX scopes_by_callee ON scopes (to_machine);

CREATE TABLE tokens (
    -- The first half of the id and part of the string; it grows with time, so that rows are appended.
    locator           INTEGER PRIMARY KEY,
    -- The second half of the id, 64 bits.
    rest              INTEGER NOT NULL,
    -- No reference: a deleted machine's tokens stay until they are swept.
    machine           INTEGER NOT NULL,
    -- NULL for a JWT.
    digest            BLOB,
    digest_version    INTEGER,
    -- NULL for an opaque token.
    signing_key       TEXT,
    created_at        INTEGER NOT NULL,
    -- The largest integer for never.
    expires_at        INTEGER NOT NULL,
    revoked_at        INTEGER,
    last_used_at      INTEGER,
    -- Columns that may be long come last, so that a search by time reads no extra pages.
    scopes            TEXT NOT NULL,
    claims            TEXT,
    revocation_reason TEXT,
    -- Equal for tokens that may stand for each other; only together with sealed.
    pool_key          BLOB,
    sealed            BLOB
) STRICT;
CREATE INDEX tokens_by_machine ON tokens (machine, locator);
CREATE INDEX tokens_pooled ON tokens (machine, pool_key, expires_at) WHERE pool_key IS NOT NULL;
CREATE INDEX tokens_sealed ON tokens (expires_at) WHERE sealed IS NOT NULL;

CREATE TABLE changes (
    -- The instance's number; 0 for the log of the authority.
    log           INTEGER NOT NULL,
    sequence      INTEGER NOT NULL,
    -- Format version of the record.
    version       INTEGER NOT NULL,
    at            INTEGER NOT NULL,
    actor         TEXT NOT NULL,
    kind          TEXT NOT NULL,
    subject       TEXT NOT NULL,
    detail        TEXT NOT NULL,
    chain_version INTEGER NOT NULL,
    code          BLOB NOT NULL,
    PRIMARY KEY (log, sequence)
) STRICT, WITHOUT ROWID;
