//! Whether the authority is ready. Anybody may ask, and as often as they like, so the store is asked once a second at most.

use std::sync::{Mutex, PoisonError};

use countersign_store::StoreError;
use tokio::sync::Semaphore;

use crate::Authority;
use crate::error::Error;

/// How long an answer stands.
const STANDS_MILLIS: i64 = 1000;
/// How many wait for the next answer; the others are told what was said last.
const PLACES: usize = 16;
/// How long that is true enough.
const REPEATED_MILLIS: i64 = 5000;

/// The last answer, and those who wait for the next.
pub(crate) struct Readiness {
    last: Mutex<Option<(i64, Result<(), String>)>>,
    places: Semaphore,
    asking: tokio::sync::Mutex<()>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            last: Mutex::default(),
            places: Semaphore::new(PLACES),
            asking: tokio::sync::Mutex::default(),
        }
    }
}

impl Readiness {
    /// The last answer, if it is not older than `millis`.
    fn last(&self, now_millis: i64, millis: i64) -> Option<Result<(), Error>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answer) = last.as_ref()?;
        (now_millis.saturating_sub(*at) < millis)
            .then(|| answer.clone().map_err(Error::Unavailable))
    }
}

impl Authority {
    /// Says whether the store can be read and written: now, or a second ago.
    ///
    /// # Errors
    /// The store's, or that it does not answer.
    pub async fn check(&self) -> Result<(), Error> {
        let last = |millis| self.readiness.last(self.time.monotonic_millis(), millis);
        if let Some(answer) = last(STANDS_MILLIS) {
            return answer;
        }
        let Ok(_place) = self.readiness.places.try_acquire() else {
            let answer = last(REPEATED_MILLIS);
            return answer.unwrap_or_else(|| Err(Error::Unavailable("no answer yet".to_owned())));
        };
        let _asking = self.readiness.asking.lock().await;
        // Somebody else may have asked meanwhile.
        if let Some(answer) = last(STANDS_MILLIS) {
            return answer;
        }
        let answer = self.store.check().await.map_err(reason);
        let now = self.time.monotonic_millis();
        *self
            .readiness
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some((now, answer.clone()));
        answer.map_err(Error::Unavailable)
    }
}

/// Returns why the store cannot be used.
fn reason(error: StoreError) -> String {
    match error {
        StoreError::Unavailable(reason) => reason,
        error => error.to_string(),
    }
}
