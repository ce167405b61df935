//! What large answers may take of the memory: half of it at most for one instance, until the last byte is written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use countersign_protocol::ids::InstanceId;
use http_body_util::Full;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::{QUEUE_TIMEOUT, overloaded};
use crate::reply::{Answer, ApiError};

const KIB: usize = 1024;
/// Answers up to this many bytes are not counted.
const SMALL: usize = 64 * KIB;

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
            return Err(overloaded());
        };
        let wait = async {
            Ok(Share {
                _of_instance: Arc::clone(&half).acquire_many_owned(amount).await?,
                _of_all: Arc::clone(&self.all).acquire_many_owned(amount).await?,
            })
        };
        match tokio::time::timeout(QUEUE_TIMEOUT, wait).await {
            Ok(share) => share.map_err(|_: tokio::sync::AcquireError| overloaded()),
            Err(_) => Err(overloaded()),
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
        let (mut head, body) = answer.into_parts();
        let bytes = body.into_inner().unwrap_or_default();
        let bytes = if bytes.len() <= SMALL {
            bytes
        } else {
            let kib = u32::try_from(bytes.len() / KIB).unwrap_or(u32::MAX);
            let share = self.take(instance, kib).await?;
            Bytes::from_owner(Held {
                bytes,
                _share: share,
            })
        };
        head.extensions.clear();
        Ok(Answer::from_parts(head, Full::new(bytes)))
    }
}

/// The bytes of a large answer and their share.
struct Held {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
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
        let hold = |size: usize| budget.hold(one, written(200, vec![b' '; size]));
        let large = hold(70 * KIB).await.unwrap();
        let bytes = large.into_body().into_inner().unwrap();
        let refused = hold(65 * KIB).await.unwrap_err();
        assert_eq!(refused.retry_after_seconds, Some(1));
        assert!(hold(SMALL).await.is_ok());
        drop(bytes);
        assert!(hold(65 * KIB).await.is_ok());
    }
}
