//! The queue in front of the writer: many put in, one thread takes batches.
//!
//! Whoever is let in comes out in a batch, or is dropped by `abandon`; nobody is forgotten. `interleavings` shows that.

use std::time::Duration;

use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What waits, in order of arrival.
pub(super) struct Queue<T> {
    line: Mutex<Line<T>>,
    arrived: Condvar,
    max_batch: usize,
    max_waiting: usize,
}

struct Line<T> {
    waiting: Vec<T>,
    is_closed: bool,
    /// The taker sleeps until this many wait; 0 while it is awake.
    wake_at: usize,
}

impl<T> Queue<T> {
    /// An empty queue, with limits on what comes out at once and on what waits.
    pub(super) fn new(max_batch: usize, max_waiting: usize) -> Self {
        Self {
            line: Mutex::new(Line {
                waiting: Vec::new(),
                is_closed: false,
                wake_at: 0,
            }),
            arrived: Condvar::new(),
            max_batch,
            max_waiting,
        }
    }

    /// Lets one in, or says why not.
    pub(super) fn push(&self, one: T) -> Result<(), &'static str> {
        let mut line = self.line();
        if line.is_closed {
            return Err("the store is closed");
        }
        if line.waiting.len() >= self.max_waiting {
            return Err("too many writes are waiting");
        }
        line.waiting.push(one);
        if line.wake_at != 0 && line.waiting.len() >= line.wake_at {
            line.wake_at = 0;
            drop(line);
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits for a batch. Where `expected` are likely to come soon, waits up to `patience` for them. `None` at the end.
    pub(super) fn take(&self, expected: usize, patience: Duration) -> Option<Vec<T>> {
        let mut line = self.line();
        while line.waiting.is_empty() {
            if line.is_closed {
                return None;
            }
            line.wake_at = 1;
            line = self
                .arrived
                .wait(line)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if line.waiting.len() < expected && !line.is_closed {
            line.wake_at = expected;
            (line, _) = self
                .arrived
                .wait_timeout_while(line, patience, |line| line.wake_at != 0 && !line.is_closed)
                .unwrap_or_else(PoisonError::into_inner);
        }
        line.wake_at = 0;
        if line.waiting.len() <= self.max_batch {
            let room = Vec::with_capacity(line.waiting.capacity());
            Some(std::mem::replace(&mut line.waiting, room))
        } else {
            Some(line.waiting.drain(..self.max_batch).collect())
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.line().waiting.len()
    }

    /// Lets nobody in any more. Those who wait still come out.
    pub(super) fn close(&self) {
        self.line().is_closed = true;
        self.arrived.notify_one();
    }

    /// Lets nobody in any more and drops those who wait.
    pub(super) fn abandon(&self) {
        self.close();
        self.line().waiting.clear();
    }

    fn line(&self) -> MutexGuard<'_, Line<T>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
