//! The check from before there were tokens, for the time of a migration: tried only where no token was presented, counted per
//! caller and logged, so that an operator sees when nobody needs it any more.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use countersign_protocol::secret::Secret;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName};

use crate::authority::key_of;
use crate::caller::LegacyCaller;
use crate::credential::Credential;

/// How many callers are counted by name.
const MAX_COUNTED: usize = 1_000;
/// Under which name all further ones are.
const OTHERS: &str = "(others)";

type Check = dyn Fn(&HeaderMap) -> Option<String> + Send + Sync;

/// A legacy check. It lets in only where a route accepts [`Accept::legacy`](crate::Accept::legacy).
///
/// ```
/// use countersign_receiver::{LegacyCheck, Secret};
///
/// // Whoever sends `Authorization: Bearer <the secret>` is the old cron job.
/// let secret = LegacyCheck::bearer_secret("cron", &Secret::new("a long shared secret".to_owned()));
/// // Or any function of the headers; it names the caller.
/// let own = LegacyCheck::by(|headers| {
///     (headers.get("x-internal")? == "yes").then(|| "gateway".to_owned())
/// });
/// # let _ = (secret, own);
/// ```
#[derive(Clone)]
pub struct LegacyCheck {
    check: Arc<Check>,
    /// What makes the check one that can never pass.
    pub(crate) fault: Option<&'static str>,
}

impl LegacyCheck {
    /// Lets in whoever presents this shared secret as a bearer token, under the name `caller`.
    #[must_use]
    pub fn bearer_secret(caller: &str, secret: &Secret) -> Self {
        let secret = secret.expose();
        let fault = match Credential::of(secret) {
            Ok(Credential::Other) => None,
            _ => Some(
                "the legacy secret is empty or looks like a token, so it would never be compared",
            ),
        };
        let mut check = Self::secret_in(AUTHORIZATION, caller, secret, |text| {
            let (scheme, secret) = text.split_once(' ')?;
            let is_bearer = scheme.eq_ignore_ascii_case("bearer");
            is_bearer.then(|| secret.trim_start_matches(' '))
        });
        check.fault = fault;
        check
    }

    /// Lets in whoever presents this shared secret in this header, under the name `caller`.
    #[must_use]
    pub fn header_secret(header: HeaderName, caller: &str, secret: &Secret) -> Self {
        Self::secret_in(header, caller, secret.expose(), |text| Some(text))
    }

    /// Lets in whomever this function names. It must be quick and must not block.
    #[must_use]
    pub fn by(check: impl Fn(&HeaderMap) -> Option<String> + Send + Sync + 'static) -> Self {
        Self {
            check: Arc::new(check),
            fault: None,
        }
    }

    /// This check, and where it lets nobody in, that one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let fault = self.fault.or(other.fault);
        let (one, two) = (self.check, other.check);
        Self {
            check: Arc::new(move |headers| one(headers).or_else(|| two(headers))),
            fault,
        }
    }

    fn secret_in(
        header: HeaderName,
        caller: &str,
        secret: &str,
        part: fn(&str) -> Option<&str>,
    ) -> Self {
        // Digests are compared: they tell nothing by their length, and the secret is not kept.
        let (caller, expected) = (caller.to_owned(), key_of(secret));
        let mut made = Self::by(move |headers| {
            let mut lines = headers.get_all(&header).iter();
            let (Some(line), None) = (lines.next(), lines.next()) else {
                return None;
            };
            let presented = key_of(part(line.to_str().ok()?)?);
            let is_equal = verify_slices_are_equal(&presented.0, &expected.0).is_ok();
            is_equal.then(|| caller.clone())
        });
        if secret.is_empty() {
            made.fault = Some("the legacy secret is empty");
        }
        made
    }
}

impl fmt::Debug for LegacyCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LegacyCheck([redacted])")
    }
}

/// A check with its count.
pub(crate) struct Legacy {
    check: LegacyCheck,
    uses: Mutex<BTreeMap<Arc<str>, u64>>,
}

impl Legacy {
    pub(crate) fn new(check: LegacyCheck) -> Self {
        Self {
            check,
            uses: Mutex::default(),
        }
    }

    pub(crate) fn admit(&self, headers: &HeaderMap) -> Option<LegacyCaller> {
        let name: Arc<str> = (self.check.check)(headers)?.into();
        tracing::warn!(caller = &*name, "using legacy auth");
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = if uses.len() < MAX_COUNTED || uses.contains_key(&name) {
            Arc::clone(&name)
        } else {
            OTHERS.into()
        };
        let count = uses.entry(counted).or_default();
        *count = count.saturating_add(1);
        Some(LegacyCaller { name })
    }

    pub(crate) fn uses(&self) -> BTreeMap<String, u64> {
        let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        uses.iter()
            .map(|(name, count)| (name.to_string(), *count))
            .collect()
    }
}
