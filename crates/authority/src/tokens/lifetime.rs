//! Computes when tokens are created and when they expire.

use countersign_protocol::bounds::Lifetime;
use countersign_protocol::limits::MAX_TOKEN_TTL_SECONDS;
use countersign_protocol::settings::NullExpiration;
use countersign_protocol::time::Timestamp;
use countersign_store::{Instance, MachineRow};

use crate::error::{Error, Problem, about, invalid};

/// Returns the creation time of a token issued now: never before the cut-off of its machine or instance.
pub(super) fn creation(now: Timestamp, cut_off: Option<Timestamp>) -> Timestamp {
    cut_off.map_or(now, |cut_off| cut_off.max(now))
}

/// Returns the `iat` of a JWT in whole seconds. It is rounded down, unless the second begins before the cut-off:
/// receivers that compare `iat` with the cut-off would refuse such a JWT.
pub(super) fn issued_at(created_at: Timestamp, cut_off: Option<Timestamp>) -> i64 {
    let second = created_at.as_seconds();
    let is_cut_off = cut_off
        .is_some_and(|cut_off| Timestamp::from_seconds(second).is_none_or(|begin| begin < cut_off));
    if is_cut_off {
        created_at.as_seconds_rounded_up()
    } else {
        second
    }
}

/// Returns the lifetime of an opaque token in milliseconds; `None` for a token that never expires.
pub(super) fn opaque_lifetime_millis(
    instance: &Instance,
    machine: &MachineRow,
    lifetime: Option<Lifetime>,
) -> Result<Option<i64>, Error> {
    match (lifetime, instance.settings.null_expiration) {
        (Some(lifetime), _) => lifetime_millis(lifetime, MAX_TOKEN_TTL_SECONDS).map(Some),
        (None, NullExpiration::Default) => Ok(Some(machine.default_token_ttl.saturating_mul(1000))),
        (None, NullExpiration::Never) => Ok(None),
    }
}

/// Returns a lifetime in whole milliseconds, at least one.
pub(super) fn lifetime_millis(lifetime: Lifetime, max_seconds: i64) -> Result<i64, Error> {
    let millis = lifetime.millis(max_seconds);
    millis.map_err(about("seconds_until_expiration"))
}

pub(super) fn later(now: Timestamp, millis: i64) -> Result<Timestamp, Error> {
    now.plus_millis(millis).ok_or_else(too_long)
}

pub(super) fn from_seconds(seconds: i64) -> Result<Timestamp, Error> {
    Timestamp::from_seconds(seconds).ok_or_else(too_long)
}

fn too_long() -> Error {
    invalid(
        "seconds_until_expiration",
        Problem::TooLarge(MAX_TOKEN_TTL_SECONDS),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_created_before_a_cut_off() {
        let at = Timestamp::from_millis;
        assert_eq!(creation(at(5), None), at(5));
        assert_eq!(creation(at(5), Some(at(4))), at(5));
        assert_eq!(creation(at(5), Some(at(6))), at(6));
    }

    #[test]
    fn iat_is_rounded_up_only_in_the_second_of_a_cut_off() {
        let at = Timestamp::from_millis;
        assert_eq!(issued_at(at(7_600), None), 7);
        assert_eq!(issued_at(at(7_600), Some(at(6_999))), 7);
        assert_eq!(issued_at(at(7_600), Some(at(7_000))), 7);
        assert_eq!(issued_at(at(7_600), Some(at(7_001))), 8);
        assert_eq!(issued_at(at(7_600), Some(at(7_600))), 8);
        assert_eq!(issued_at(at(8_000), Some(at(7_600))), 8);
        assert_eq!(issued_at(at(8_000), Some(at(8_000))), 8);
    }
}
