//! Fills the index after a start, so that the first verify of a token need not ask the database.
//!
//! A thread reads tokens, newest first, until all are in the index or it is full, and then ends. It puts rows in like any
//! reader that missed, so it can make nothing stale; nobody waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::{Shared, rows, tokens};

/// How many rows are read at once: a short read holds up no checkpoint.
const ROWS: u32 = 500;

/// The thread; it ends with this at the latest.
#[derive(Debug)]
pub(super) struct Warmer {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Warmer {
    pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let thread = std::thread::Builder::new()
            .name("store-warmer".to_owned())
            .spawn(move || warm(&shared, &stop))?;
        Ok(Self {
            is_over,
            thread: Some(thread),
        })
    }
}

impl Drop for Warmer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported where it happened.
            drop(thread.join());
        }
    }
}

fn warm(shared: &Shared, is_over: &AtomicBool) {
    let Shared { readers, index, .. } = shared;
    let mut before = i64::MAX;
    while !is_over.load(Ordering::Relaxed) && !index.tokens.is_full() {
        let watches = index.tokens.watch_all();
        let read =
            readers.read(|connection| tokens::newest(connection, &index.texts, before, ROWS));
        let newest = match read {
            Ok(newest) => newest,
            Err(error) => {
                tracing::warn!(%error, "the index is not filled further; it fills with use");
                return;
            }
        };
        let Some(oldest) = newest.last() else { return };
        before = rows::sql_locator(oldest.id.locator());
        for raw in newest {
            let locator = raw.id.locator();
            if let Some(entry) = index.entry(raw) {
                index.tokens.fill_absent(&watches, locator, entry);
            }
        }
    }
}
