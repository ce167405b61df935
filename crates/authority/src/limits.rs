//! Limits on how often: failed authentications of an address, requests of an instance or a machine key, reveals of secrets.
//!
//! Each counts in fixed windows of the monotonic clock. The maps are bounded: at the bound the windows that are over are
//! dropped, and where none is, the newcomer is let through, because a limit must never lock out the good.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::settings::RateLimit;

use crate::Authority;
use crate::error::Error;

/// How many callers a limit remembers.
pub(crate) const MAX_REMEMBERED: usize = 100_000;
/// The window for failed authentications.
const FAILURE_WINDOW_SECONDS: u32 = 10;
/// The window for reveals of secrets.
const REVEAL_WINDOW_SECONDS: u32 = 60;

/// Counts per key.
struct Windows<K>(Mutex<HashMap<K, Window>>);

#[derive(Clone, Copy)]
struct Window {
    ends_millis: i64,
    count: u32,
}

impl<K: Eq + Hash> Windows<K> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// Counts one, or says in how many seconds the next one will be let through.
    fn count(&self, key: K, limit: RateLimit, now_millis: i64) -> Result<(), u32> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !has_room(&mut windows, &key, |window| {
            window.ends_millis <= now_millis
        }) {
            return Ok(());
        }
        let fresh = Window {
            ends_millis: now_millis.saturating_add(i64::from(limit.seconds) * 1000),
            count: 0,
        };
        let window = windows.entry(key).or_insert(fresh);
        // A window may also be longer than the limit that is set now.
        if window.ends_millis <= now_millis || window.ends_millis > fresh.ends_millis {
            *window = fresh;
        }
        if window.count >= limit.requests {
            return Err(seconds(window.ends_millis.saturating_sub(now_millis)));
        }
        window.count += 1;
        Ok(())
    }
}

/// Whether `key` is in the map or fits into it; at the bound, what is over is dropped.
pub(crate) fn has_room<K: Eq + Hash, V>(
    map: &mut HashMap<K, V>,
    key: &K,
    is_over: impl Fn(&V) -> bool,
) -> bool {
    if map.len() >= MAX_REMEMBERED && !map.contains_key(key) {
        map.retain(|_, value| !is_over(value));
        return map.len() < MAX_REMEMBERED;
    }
    true
}

/// Rounded up: whoever comes then is welcome.
pub(crate) fn seconds(millis: i64) -> u32 {
    u32::try_from(millis.saturating_add(999) / 1000).unwrap_or(u32::MAX)
}

pub(crate) struct Limits {
    max_failures: u32,
    max_reveals: u32,
    failures: Windows<IpAddr>,
    instances: Windows<InstanceId>,
    machines: Windows<MachineId>,
    reveals: Windows<InstanceId>,
}

impl Limits {
    pub(crate) fn new(max_failures: u32, max_reveals: u32) -> Self {
        Self {
            max_failures,
            max_reveals,
            failures: Windows::new(),
            instances: Windows::new(),
            machines: Windows::new(),
            reveals: Windows::new(),
        }
    }
}

impl Authority {
    /// Counts a failed authentication of `address`. An error says that this address has failed too often; requests with
    /// valid keys never come here.
    ///
    /// # Errors
    /// [`Error::RateLimited`].
    pub fn note_failure(&self, address: IpAddr) -> Result<(), Error> {
        let limit = RateLimit {
            requests: self.limits.max_failures,
            seconds: FAILURE_WINDOW_SECONDS,
        };
        limited(
            self.limits
                .failures
                .count(network(address), limit, self.time.monotonic_millis()),
        )
    }

    pub(crate) fn limit_instance(
        &self,
        instance: InstanceId,
        limit: Option<RateLimit>,
    ) -> Result<(), Error> {
        let Some(limit) = limit else { return Ok(()) };
        limited(
            self.limits
                .instances
                .count(instance, limit, self.time.monotonic_millis()),
        )
    }

    pub(crate) fn limit_machine(
        &self,
        machine: MachineId,
        limit: Option<RateLimit>,
    ) -> Result<(), Error> {
        let Some(limit) = limit else { return Ok(()) };
        limited(
            self.limits
                .machines
                .count(machine, limit, self.time.monotonic_millis()),
        )
    }

    pub(crate) fn limit_reveals(&self, instance: InstanceId) -> Result<(), Error> {
        let limit = RateLimit {
            requests: self.limits.max_reveals,
            seconds: REVEAL_WINDOW_SECONDS,
        };
        limited(
            self.limits
                .reveals
                .count(instance, limit, self.time.monotonic_millis()),
        )
    }
}

fn limited(outcome: Result<(), u32>) -> Result<(), Error> {
    outcome.map_err(|retry_after_seconds| Error::RateLimited {
        retry_after_seconds,
    })
}

/// The part of an address that one party controls: all of IPv4, the first 64 bits of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_within_a_window_and_ends_with_it() {
        let windows = Windows::new();
        let limit = RateLimit {
            requests: 2,
            seconds: 10,
        };
        assert_eq!(windows.count(1, limit, 0), Ok(()));
        assert_eq!(windows.count(1, limit, 9_000), Ok(()));
        assert_eq!(windows.count(1, limit, 9_500), Err(1));
        assert_eq!(windows.count(2, limit, 9_500), Ok(()));
        assert_eq!(windows.count(1, limit, 10_000), Ok(()));
    }

    #[test]
    fn a_full_map_lets_newcomers_through() {
        let windows = Windows::new();
        let limit = RateLimit {
            requests: 1,
            seconds: 10,
        };
        for key in 0..MAX_REMEMBERED {
            assert_eq!(windows.count(key, limit, 0), Ok(()));
        }
        assert_eq!(windows.count(MAX_REMEMBERED, limit, 1), Ok(()));
        assert_eq!(windows.count(0, limit, 1), Err(10));
        assert_eq!(windows.count(MAX_REMEMBERED, limit, 10_000), Ok(()));
        assert_eq!(windows.0.lock().expect("not poisoned").len(), 1);
    }

    #[test]
    fn one_ipv6_network_counts_as_one() {
        let one: IpAddr = "2001:db8::1".parse().expect("an address");
        let other: IpAddr = "2001:db8::ffff:1".parse().expect("an address");
        assert_eq!(network(one), network(other));
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
        assert_eq!(
            network(mapped),
            "192.0.2.1".parse::<IpAddr>().expect("an address")
        );
    }
}
