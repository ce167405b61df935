//! The bounds that both ends must agree on. The parser, the OpenAPI document and the documentation take them from here.

/// The longest name of a machine, in characters.
pub const MAX_NAME_LENGTH: usize = 255;
/// How many machines a machine may call.
pub const MAX_SCOPES: usize = 150;
/// The longest life of a token: ten years of 365 days, in seconds.
pub const MAX_TOKEN_TTL_SECONDS: i64 = 315_360_000;
/// The life of a token where neither the request nor the machine says otherwise, in seconds.
pub const DEFAULT_TOKEN_TTL_SECONDS: i64 = 3_600;
/// The longest time for which a rotated machine key goes on working, in seconds.
pub const MAX_PREVIOUS_TOKEN_TTL_SECONDS: i64 = 28_800;
/// The largest page of machines.
pub const MAX_MACHINES_PAGE: i64 = 500;
/// The largest page of tokens.
pub const MAX_TOKENS_PAGE: i64 = 100;
/// The page size where the request names none.
pub const DEFAULT_PAGE: i64 = 10;
/// The longest revocation reason, in characters.
pub const MAX_REASON_LENGTH: usize = 255;
/// The longest issuer that an instance may set, in bytes.
pub const MAX_ISSUER_LENGTH: usize = 255;
/// The largest integer that every JSON reader keeps (RFC 8259 section 6): 2^53 − 1.
pub const MAX_SAFE_INTEGER: i64 = 9_007_199_254_740_991;
/// The largest claims, in bytes of compact JSON.
pub const MAX_CLAIMS_BYTES: usize = 8 * 1024;
/// The deepest nesting of a JSON document.
pub const MAX_JSON_DEPTH: usize = 32;
/// The largest JWT, in bytes of its compact form.
pub const MAX_JWT_BYTES: usize = 16 * 1024;
/// The largest header of a JWT, in bytes of base64url. It is read before the signature is checked.
pub const MAX_JWT_HEADER_BYTES: usize = 2 * 1024;
/// How many members the header of a JWT may have. The registered ones are fifteen.
pub const MAX_JWT_HEADER_MEMBERS: usize = 32;
/// The largest request body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// How many tokens a machine may hold, opaque ones and JWTs. Those that are over make room for new ones.
pub const MAX_TOKENS: u64 = 1_000_000;
/// How many live keys a machine may have; a further rotation drops the oldest.
pub const MAX_MACHINE_KEYS: usize = 5;
/// How many live keys an instance may have.
pub const MAX_INSTANCE_KEYS: usize = 20;
