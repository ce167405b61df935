//! Builds the bodies of tokens on the wire.

use countersign_protocol::body::{M2mToken, M2mTokenTag};
use countersign_protocol::time::Timestamp;
use countersign_protocol::token::TokenFormat;
use countersign_store::StoredToken;

use super::lifetime::issued_at;

/// Returns the body of a token without its string. `used_at` is a use that its row does not contain yet.
pub(super) fn token_body(
    stored: StoredToken,
    used_at: Option<Timestamp>,
    now: Timestamp,
) -> M2mToken {
    let cut_off_at = stored.cut_off_at();
    // If the cut-off does not end the token, the token was issued after the cut-off.
    let issued_after = match cut_off_at {
        Some(_) => None,
        None => stored
            .machine
            .issued_before
            .max(stored.instance.issued_before),
    };
    let row = stored.row;
    let format = row.format();
    let expired = row.is_expired(now);
    let last_used_at = row.last_used_at.max(used_at);
    let created_at = shown_creation(format, row.created_at, issued_after);
    let (revoked_at, revocation_reason) = match row.revoked {
        Some(revocation) => (Some(revocation.at), revocation.reason),
        None => (None, None),
    };
    let latest = last_used_at.max(revoked_at).max(cut_off_at);
    M2mToken {
        object: M2mTokenTag::Tag,
        id: row.id,
        subject: stored.machine.id,
        scopes: row.scopes,
        claims: row.claims,
        revoked: revoked_at.is_some() || cut_off_at.is_some(),
        revocation_reason,
        expired,
        expiration: row.expires_at,
        last_used_at,
        created_at,
        updated_at: latest.map_or(created_at, |latest| latest.max(created_at)),
        token: None,
    }
}

/// Returns when a token was created, as shown on the wire. For a JWT, that is its `iat`, in whole seconds.
fn shown_creation(
    format: TokenFormat,
    created_at: Timestamp,
    issued_after: Option<Timestamp>,
) -> Timestamp {
    match format {
        TokenFormat::Opaque => created_at,
        TokenFormat::Jwt => {
            let issued_at = issued_at(created_at, issued_after);
            Timestamp::from_seconds(issued_at).unwrap_or(created_at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_shows_its_iat_as_its_creation() {
        let at = Timestamp::from_millis;
        let opaque = |created_at| shown_creation(TokenFormat::Opaque, at(created_at), Some(at(1)));
        let jwt = |created_at, cut_off: Option<i64>| {
            shown_creation(TokenFormat::Jwt, at(created_at), cut_off.map(at))
        };
        assert_eq!(opaque(1_999), at(1_999));
        assert_eq!(jwt(1_999, None), at(1_000));
        assert_eq!(jwt(2_000, None), at(2_000));
        assert_eq!(jwt(1_999, Some(1_500)), at(2_000));
        assert_eq!(jwt(1_999, Some(1_000)), at(1_000));
    }
}
