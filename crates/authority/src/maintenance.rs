//! Does the periodic maintenance: writes when tokens were used, advances signing keys, counts tokens, and erases or
//! deletes expired data. No verification depends on it: an expired token is refused whether or not it is deleted.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use countersign_protocol::ids::Locator;

use crate::Authority;
use crate::error::{Error, keep_first};

/// How often [`Authority::maintain`] wants to be called: the longest time by which `last_used_at` is late.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(3);

/// How often signing keys and sealed copies are checked.
const MINUTE_MILLIS: i64 = 60_000;
/// How often all tokens are looked at.
const SWEEP_MILLIS: i64 = 3_600_000;
/// How long expired and revoked tokens are kept: 30 days.
const RETENTION_MILLIS: i64 = 30 * 86_400_000;
/// How many tokens a sweep looks at before it lets others write.
const SWEEP_BATCH: u32 = 500;

/// When the rarer jobs are due, on the monotonic clock.
#[derive(Default)]
pub(crate) struct Progress {
    next_minute_millis: AtomicI64,
    next_sweep_millis: AtomicI64,
    sweep: Mutex<Option<Locator>>,
}

impl Authority {
    /// Does what is due. Call it every [`FLUSH_INTERVAL`]. What fails keeps nothing else from being done.
    ///
    /// # Errors
    /// The first error, when all was tried; what could not be done is done the next time.
    pub async fn maintain(&self) -> Result<(), Error> {
        let mut outcome = self.flush().await;
        let now = self.time.monotonic_millis();
        if is_due(&self.maintenance.next_minute_millis, now, MINUTE_MILLIS) {
            let erased = self.store.erase_expired_secrets(self.now()).await;
            keep_first(&mut outcome, erased.map(drop).map_err(Error::from));
            keep_first(&mut outcome, self.advance_signing_keys().await);
        }
        keep_first(&mut outcome, self.count_tokens().await);
        if now >= self.maintenance.next_sweep_millis.load(Ordering::Relaxed) {
            keep_first(&mut outcome, self.sweep_once(now).await);
        }
        outcome
    }

    /// Writes when tokens were used and how far time has come. Call it at the end, too.
    ///
    /// # Errors
    /// The store's error.
    pub async fn flush(&self) -> Result<(), Error> {
        let uses = self.uses.take();
        let recorded = self.store.record_uses(uses, self.now()).await;
        match recorded {
            Ok(()) => self.uses.written(),
            Err(_) => self.uses.put_back(),
        }
        Ok(recorded?)
    }

    /// One batch of the sweep; the next call goes on behind it.
    async fn sweep_once(&self, now_millis: i64) -> Result<(), Error> {
        let mut after = *self
            .maintenance
            .sweep
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let dead_before = now.plus_millis(-RETENTION_MILLIS).unwrap_or(now);
        // A bounded share of each round, so that millions of tokens take minutes and nobody notices.
        for _ in 0..40 {
            let swept = self
                .store
                .sweep_tokens(after, SWEEP_BATCH, dead_before, now)
                .await?;
            after = swept.next;
            if after.is_none() {
                self.maintenance
                    .next_sweep_millis
                    .store(now_millis.saturating_add(SWEEP_MILLIS), Ordering::Relaxed);
                break;
            }
        }
        *self
            .maintenance
            .sweep
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = after;
        Ok(())
    }
}

fn is_due(next: &AtomicI64, now: i64, every: i64) -> bool {
    let is_due = now >= next.load(Ordering::Relaxed);
    if is_due {
        next.store(now.saturating_add(every), Ordering::Relaxed);
    }
    is_due
}
