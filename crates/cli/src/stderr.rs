//! Standard error: messages and the log. Nothing waits for its reader, and no error in writing to it ends the process.
//!
//! Commands write as they go. A server begins a queue: one thread writes, lines that do not fit are lost and counted, and the
//! end of the process waits for the rest only a moment.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};

/// How many bytes of lines may wait.
const MAX_WAITING_BYTES: usize = 1024 * 1024;
/// How long the end of the process waits for the lines that wait.
const MAX_FINISH: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Begins the queue. Returns the number of lines lost so far, which goes on counting.
pub(crate) fn begin_queue() -> Arc<AtomicU64> {
    let queue = QUEUE.get_or_init(|| {
        let queue = Arc::new(Queue::default());
        let writing = Arc::clone(&queue);
        // Without a thread, lines are lost as with a reader that stands still.
        let _ = thread::Builder::new()
            .name("stderr".to_owned())
            .spawn(move || writing.write_to(&mut io::stderr()));
        queue
    });
    Arc::clone(&queue.lost)
}

/// Writes a line, colored where standard error is a terminal.
pub(crate) fn line(text: &str) {
    write(format!("{text}\n").as_bytes());
}

/// Writes text without a line break, such as a question.
pub(crate) fn text(text: &str) {
    write(text.as_bytes());
}

fn write(text: &[u8]) {
    let Some(queue) = QUEUE.get() else {
        let mut stream = anstream::stderr().lock();
        let _ = stream.write_all(text).and_then(|()| stream.flush());
        return;
    };
    if AutoStream::choice(&io::stderr()) == ColorChoice::Never {
        queue.push(anstream::adapter::strip_bytes(text).into_vec());
    } else {
        queue.push(text.to_vec());
    }
}

/// Waits for the lines of the queue, for a moment at most.
pub(crate) fn finish() {
    if let Some(queue) = QUEUE.get() {
        queue.wait_until_empty(MAX_FINISH);
    }
}

/// Writes the lines of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match QUEUE.get() {
            Some(queue) => queue.push(line.to_vec()),
            None => drop(io::stderr().write_all(line)),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines that wait to be written.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Lines came, or the last one was written.
    changed: Condvar,
    lost: Arc<AtomicU64>,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    /// The length of the lines, and of the one that is being written.
    bytes: usize,
}

impl Queue {
    fn push(&self, line: Vec<u8>) {
        let mut waiting = self.lock();
        if waiting.bytes + line.len() > MAX_WAITING_BYTES {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        drop(waiting);
        self.changed.notify_all();
    }

    /// Writes lines as they come, forever.
    fn write_to(&self, stream: &mut impl Write) {
        let mut told = 0;
        loop {
            let waiting = self.lock();
            let waiting = self
                .changed
                .wait_while(waiting, |waiting| waiting.lines.is_empty());
            let Some(line) = waiting
                .unwrap_or_else(PoisonError::into_inner)
                .lines
                .pop_front()
            else {
                continue;
            };
            if stream.write_all(&line).is_err() {
                self.lost.fetch_add(1, Ordering::Relaxed);
            } else {
                let lost = self.lost.load(Ordering::Relaxed);
                if lost > told {
                    tracing::warn!(
                        lines = lost - told,
                        "lines of the log were lost, because they could not be written"
                    );
                    told = lost;
                }
            }
            self.lock().bytes -= line.len();
            self.changed.notify_all();
        }
    }

    fn wait_until_empty(&self, most: Duration) {
        let waiting = self.lock();
        drop(
            self.changed
                .wait_timeout_while(waiting, most, |waiting| waiting.bytes > 0),
        );
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
