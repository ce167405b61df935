//! What large answers may take of the memory: half of it at most for one instance, until the last byte is written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_protocol::ids::InstanceId;
use http_body::Body as _;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::answer::Answer;
use crate::pace::QUEUE_TIMEOUT;
use crate::reply::ApiError;

const KIB: u64 = 1024;
/// Answers up to this many bytes are not counted.
const SMALL: u64 = 64 * KIB;

/// Whether an answer counts.
pub(crate) fn is_large(answer: &Answer) -> bool {
    answer.body().size_hint().lower() > SMALL
}

/// An amount that instances share.
pub(crate) struct Budget {
    half: u32,
    all: Arc<Semaphore>,
    /// What is left of each instance's half, while it holds some.
    halves: Mutex<HashMap<InstanceId, Arc<Semaphore>>>,
    /// How much may wait for its share; the rest is turned away at once.
    waiting: Semaphore,
}

/// A part of a budget, free again when dropped.
pub(crate) struct Share {
    _of_instance: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Budget {
    pub(crate) fn new(half: u32, waiting: usize) -> Self {
        Self {
            half,
            all: Arc::new(Semaphore::new(half as usize * 2)),
            halves: Mutex::default(),
            waiting: Semaphore::new(waiting),
        }
    }

    /// Takes a share, if there is one within a second. Whoever wants more than half gets half.
    pub(crate) async fn take(&self, instance: InstanceId, amount: u32) -> Result<Share, ApiError> {
        let amount = amount.min(self.half);
        let half = self.half_of(instance);
        let take_now = || {
            Some(Share {
                _of_instance: Arc::clone(&half).try_acquire_many_owned(amount).ok()?,
                _of_all: Arc::clone(&self.all).try_acquire_many_owned(amount).ok()?,
            })
        };
        if let Some(share) = take_now() {
            return Ok(share);
        }
        let Ok(_place) = self.waiting.try_acquire_many(amount) else {
            return Err(ApiError::overloaded());
        };
        let wait = async {
            Ok::<_, AcquireError>(Share {
                _of_instance: Arc::clone(&half).acquire_many_owned(amount).await?,
                _of_all: Arc::clone(&self.all).acquire_many_owned(amount).await?,
            })
        };
        match tokio::time::timeout(QUEUE_TIMEOUT, wait).await {
            Ok(Ok(share)) => Ok(share),
            Ok(Err(_)) | Err(_) => Err(ApiError::overloaded()),
        }
    }

    fn half_of(&self, instance: InstanceId) -> Arc<Semaphore> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        // A share and whoever waits for one keep their instance's half alive.
        halves.retain(|_, half| Arc::strong_count(half) > 1);
        let half = halves
            .entry(instance)
            .or_insert_with(|| Arc::new(Semaphore::new(self.half as usize)));
        Arc::clone(half)
    }

    /// Counts a large answer, in KiB, until its last byte is written. What it held while it was made is free again.
    pub(crate) async fn hold(
        &self,
        instance: InstanceId,
        answer: Answer,
    ) -> Result<Answer, ApiError> {
        let kib = u32::try_from(answer.body().size_hint().lower() / KIB).unwrap_or(u32::MAX);
        let share = self.take(instance, kib).await?;
        Ok(answer.map(|body| body.released().holding(share)))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::reply::written;

    fn instance(last: char) -> InstanceId {
        format!("ins_{}{last}", "0".repeat(26)).parse().unwrap()
    }

    #[tokio::test]
    async fn an_instance_takes_half_at_most_and_leaves_the_rest_to_others() {
        let budget = Budget::new(10, 0);
        let (one, other) = (instance('1'), instance('2'));
        let share = budget.take(one, 6).await.unwrap();
        assert!(budget.take(one, 5).await.is_err());
        let whole = budget.take(other, 1000).await.unwrap();
        assert!(budget.take(other, 1).await.is_err());
        drop(share);
        let again = budget.take(one, 10).await.unwrap();
        assert!(budget.take(instance('3'), 1).await.is_err());
        drop((whole, again));
        assert!(budget.take(one, 10).await.is_ok());
    }

    #[tokio::test]
    async fn large_answers_count_until_their_bytes_are_dropped() {
        let budget = Budget::new(100, 0);
        let one = instance('1');
        let hold = |size: u64| {
            let body = vec![b' '; usize::try_from(size).unwrap()];
            budget.hold(one, written(200, body))
        };
        let large = hold(70 * KIB).await.unwrap();
        let frame = large.into_body().frame().await.unwrap().unwrap();
        let bytes = frame.into_data().unwrap();
        let refused = hold(65 * KIB).await.err().unwrap();
        assert_eq!(refused.retry_after_seconds, Some(1));
        let body = |size: u64| vec![b' '; usize::try_from(size).unwrap()];
        assert!(!is_large(&written(200, body(SMALL))));
        assert!(is_large(&written(200, body(SMALL + 1))));
        drop(bytes);
        assert!(hold(65 * KIB).await.is_ok());
    }
}
