//! Turns: one at a time for each instance, for what is decided by what is stored and done only afterwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_protocol::ids::InstanceId;
use tokio::sync::OwnedMutexGuard;

/// One lock for each instance, of which there are as many as the operator made.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for a turn. It lasts until what is returned is dropped.
    pub(crate) async fn of(&self, instance: InstanceId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(instance).or_default())
        };
        lock.lock_owned().await
    }
}
