//! A token that was made before, such as one for 365 days from the environment: presented as it is, until its end.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tokio::time::Instant;

use crate::chance::wall;
use crate::tokens::TokenString;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// From when on the log warns.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub(super) struct ReadyMade {
    token: TokenString,
    expires_at: Option<SystemTime>,
    warned_at: Mutex<Option<Instant>>,
}

impl ReadyMade {
    pub(super) fn new(token: TokenString, expires_at: Option<SystemTime>) -> Self {
        let expires_at = expires_at.or_else(|| end_of_jwt(token.expose()));
        let ready_made = Self {
            token,
            expires_at,
            warned_at: Mutex::new(None),
        };
        ready_made.warn();
        ready_made
    }

    pub(super) fn token(&self) -> TokenString {
        self.warn();
        self.token.clone()
    }

    /// Says that the end is near, once a day.
    fn warn(&self) {
        let Some(warning) = self.expires_at.and_then(|end| Warning::at(wall(), end)) else {
            return;
        };
        let Ok(mut warned_at) = self.warned_at.try_lock() else {
            return;
        };
        let now = Instant::now();
        if warned_at.is_some_and(|at| now < at + DAY) {
            return;
        }
        *warned_at = Some(now);
        match warning {
            Warning::Over => {
                tracing::error!("the M2M token's life is over: put a new one into its place")
            }
            Warning::DaysLeft(days) => tracing::warn!(
                days_left = days,
                "the M2M token will end soon: put a new one into its place"
            ),
        }
    }
}

/// What there is to say about an end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Warning {
    DaysLeft(u64),
    Over,
}

impl Warning {
    pub(super) fn at(now: SystemTime, end: SystemTime) -> Option<Self> {
        match end.duration_since(now) {
            Ok(left) if left > WARN_BEFORE => None,
            Ok(left) if left > Duration::ZERO => {
                Some(Self::DaysLeft(left.as_secs() / DAY.as_secs()))
            }
            _ => Some(Self::Over),
        }
    }
}

/// The `exp` of a JWT, unchecked: it decides about a line in the log and nothing else.
pub(super) fn end_of_jwt(token: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Payload {
        exp: f64,
    }
    let mut segments = token.split('.');
    let payload = segments.nth(1)?;
    if segments.count() != 1 {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let exp = serde_json::from_slice::<Payload>(&payload).ok()?.exp;
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(exp).ok()?)
}
