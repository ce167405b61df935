//! How long a request may take, and which budget it takes its place from.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::reply::ApiError;

/// How many requests are worked on at once.
const MAX_IN_FLIGHT: usize = 1_024;
/// How many requests may wait for something to happen. Each holds a connection and a few KiB.
const MAX_WAITING: usize = 8_192;
/// How long a request waits for its turn.
pub(crate) const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// How a request is paced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It is answered from memory or by a point read, so it need not queue behind those that wait.
    AtOnce,
    /// It may wait for the disk or the signer, and takes a turn for that.
    Queued,
    /// It waits for something to happen, for seconds.
    Waiting,
}

impl Pace {
    /// The time in which a request must be answered once it has its turn.
    pub(crate) fn limit(self) -> Duration {
        match self {
            Self::AtOnce | Self::Queued => Duration::from_secs(8),
            Self::Waiting => Duration::from_secs(60),
        }
    }
}

/// The places for requests.
pub(crate) struct Turns {
    queued: Semaphore,
    waiting: Semaphore,
}

/// A place, free again when dropped.
pub(crate) enum Turn<'a> {
    Taken(#[expect(dead_code, reason = "held, not looked at")] SemaphorePermit<'a>),
    NotNeeded,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            queued: Semaphore::new(MAX_IN_FLIGHT),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Takes a place. If all are taken, a waiting request is rejected at once, other requests after a second.
    pub(crate) async fn take(&self, pace: Pace) -> Result<Turn<'_>, ApiError> {
        let (places, patience) = match pace {
            Pace::AtOnce => return Ok(Turn::NotNeeded),
            Pace::Queued => (&self.queued, QUEUE_TIMEOUT),
            Pace::Waiting => (&self.waiting, Duration::ZERO),
        };
        if let Ok(turn) = places.try_acquire() {
            return Ok(Turn::Taken(turn));
        }
        // Boxed, because few wait and all requests would be as large otherwise.
        match Box::pin(tokio::time::timeout(patience, places.acquire())).await {
            Ok(Ok(turn)) => Ok(Turn::Taken(turn)),
            Ok(Err(_)) | Err(_) => Err(ApiError::overloaded()),
        }
    }
}
